"""The command line. Data goes to stdout, words to stderr; each verb imports what it needs when it is called."""
