"""A real Kubernetes cluster for the tests: the control plane as plain processes, a real node in namespaces of its own.

Modules: `programs` gets and pins the parts, `control_plane` and `node` run them, `fixtures` hands them to tests.
"""
