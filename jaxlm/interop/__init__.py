"""Hugging Face folders, both ways; needs neither PyTorch nor transformers."""

from jaxlm.interop.adapting import adapt as adapt
from jaxlm.interop.description import NotExportable as NotExportable
from jaxlm.interop.exporting import export_folder as export_folder
from jaxlm.interop.importing import Imported as Imported
from jaxlm.interop.importing import import_folder as import_folder
from jaxlm.interop.transplanting import transplant as transplant
