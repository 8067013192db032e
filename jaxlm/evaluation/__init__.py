"""Scores of trained models, and what users ask of them.

`predict` runs a head over labelled data and `metrics` scores what it wrote;
`language` gives losses and perplexities; `pseudo_likelihood`, `likelihood`
and `minimal_pairs` judge sentences; `fill` and `generate` write text; `embed`
gives vectors, `similarity` holds their cosines against people's scores, and
`geometry` tells how they lie, as they are or through `whitening` or `flow`. All
take a model with its variables and tokenizer, never a config, so a notebook
calls them as the commands do.
"""
