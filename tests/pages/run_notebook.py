"""Runs a notebook, in a process of its own, since Jupyter leaves much open. Arguments: the notebook, and where the result goes."""

import sys

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

notebook = nbformat.read(sys.argv[1], as_version=4)
# Over TCP, a kernel warns that everybody on the machine could listen.
config = Config({"KernelManager": {"transport": "ipc"}})
NotebookClient(notebook, timeout=60, coalesce_streams=True, config=config).execute()
nbformat.write(notebook, sys.argv[2])
