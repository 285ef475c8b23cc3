"""The benchmark command line: `python -m bench`, or `gradflow-bench` where gradflow is installed."""
