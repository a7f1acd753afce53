"""Your own MCP servers: what their config files say, and how they run.

From the file to the episode:

    config.py       a config file as other tools write it -> one `ServerConfig` per server
    process.py      one server process: its own folder, its own variables, a process group
    reaper.py       nothing is left behind, even when the trainer is killed
    stdio.py        the stdio transport, with caps and deadlines that the SDK does not have
    http.py         the HTTP and SSE transports
    addresses.py    where a server's name may lead
    connection.py   sessions over these transports, which say what went wrong with them
    stand.py        a folder, and the servers started in it
    pool.py         stands made ahead, so that a reset does not wait
    slots.py        the servers of each slot, renewed for every episode
    mount.py        several servers as one: names prefixed, clashes resolved, the way back kept
    allowed.py      which tools episodes may be offered
    worlds.py       state that a server shows of itself
    backend.py      all of it behind the interface that the environment knows
    oddities.py     what is unusual about a tool list
    check.py        every server started and looked at, before a run is
    __main__.py     the command line: `python -m envs.servers check mcp.json`

The parts of config.py, in the order in which a file goes through them:

    config_json.py          text with comments and trailing commas -> JSON
    config_values.py        JSON objects read key by key; errors that name file, server and key
    config_variables.py     `${VAR}` and its relatives; files of variables
    config_extras.py        our own settings, under the key "mcpGym"
    config_server.py        the result: `ServerConfig`
"""
