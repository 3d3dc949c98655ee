"""For authors of runtimes: does a runtime keep the contract that the server builds on?

    from oipserver.testing import check_runtime

    def test_the_contract(tmp_path):
        check_runtime(MyRuntime, write_model(tmp_path))

The model is loaded, warmed up and called by the server's own code, on threads of its own.

announced   what can be seen without calling the model
subject     the model, and how it is called
checks      what is tried, one function per promise
compare     when two answers are the same
run         all of it, in order
"""

from oipserver.testing.run import Report, check_runtime

__all__ = ["Report", "check_runtime"]
