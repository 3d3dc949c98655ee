"""What stored models say of themselves, found out without loading them.

inspection     the report: runtime, metadata, versions, digest
mlflow_model   an MLflow model's own files
documents      small files of unknown origin
skops_file     the types in a `.skops` file
pickles        the names that pickles import: files, archives, what is compressed or within
machine        what one pickle's operations do, on stand-ins
operations     a pickle as its operations
verdicts       what a name means
text           the report for people
golden_file    golden rows, read and written: the only part that a server needs
"""
