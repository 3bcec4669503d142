"""Text in and out: corpora, tokenizers, packing into rows and the order in which training sees the rows."""
