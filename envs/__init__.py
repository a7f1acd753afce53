"""MCP-v0: episodes of tool calling on real MCP servers.

`import envs` registers the environment; `gymnasium.make("envs:MCP-v0")` works without it.
"""

import gymnasium

gymnasium.register(
    id="MCP-v0",
    entry_point="envs.mcp_env:MCPGymEnv",
    vector_entry_point="envs.vector_env:MCPVectorEnv",
)
