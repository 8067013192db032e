"""Data: sources, tokenizers, caches, and the Tasks that training reads.

Discovery imports every module of this package whose name does not start with
"_". Importing seqio takes 15 s, so a module that needs it imports it inside
its functions, or starts with "_".
"""

from jaxlm.registry import Registry

datasets = Registry("data", __name__)
