"""The paper "Promises, Outlooks and Challenges of Diffusion Language Modeling", table by table."""
