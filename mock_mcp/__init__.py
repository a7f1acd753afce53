"""A seeded mock world (math, search, database, data, assistant) served as a real MCP server.

names.py      word lists that the worlds are drawn from
domains/      one state file and one tools file per domain
world.py      the state of all domains: build, copy, digest, compare
toolspec.py   how a domain declares a tool
faults.py     what can happen to a call besides being answered
handle.py     which world a request acts on
server.py     the tools as an MCP server
__main__.py   `python -m mock_mcp`
errors.py     the errors of this package
"""
