"""Model URIs become local paths: fetched, verified, unpacked, cached.

    fetched = fetch(config, sources)            # on a thread: it reads the network and the disk
    runtime.load(fetched.path, replace(config, trust_pickle=config.trust_pickle or fetched.trusted))

A path or a `file:` URI is used where it lies.  Everything else arrives in the cache directory:
complete, equal to its pin, and under its own name, or not at all.

fetch      one model: its URI in, a local path out
http       http and https: one file, with redirects and resume
network    which addresses may be reached
objects    s3, gs, az, abfs, hf: single objects and prefixes, through fsspec
tracking   runs and models, through mlflow
archives   zip and tar, member by member
cache      what is already there; one process at a time; atomic placement
retry      how often, how long
meter      how much
progress   what the terminal or the log says meanwhile
"""

from oipserver.sources.errors import SourceError
from oipserver.sources.fetch import Fetched, fetch

__all__ = ["Fetched", "SourceError", "fetch"]
