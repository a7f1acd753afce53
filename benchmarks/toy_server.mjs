// The toy server in JavaScript, over stdio: one tool that adds two numbers.
//
// Bare JSON-RPC instead of the npm SDK, so that it needs nothing but node. Like the npm servers of
// today it speaks the protocol of 2025-11-25. It starts faster than a server with packages to load.

import { createInterface } from "node:readline";

const whole = { type: "integer" };
const add = {
  name: "add",
  description: "Add two whole numbers.",
  inputSchema: { type: "object", properties: { a: whole, b: whole }, required: ["a", "b"] },
  outputSchema: { type: "object", properties: { result: whole }, required: ["result"] },
};

const methods = {
  initialize: () => ({
    protocolVersion: "2025-11-25",
    capabilities: { tools: {} },
    serverInfo: { name: "toy", version: "1" },
  }),
  ping: () => ({}),
  "tools/list": () => ({ tools: [add] }),
  "tools/call": ({ arguments: { a, b } }) => ({
    content: [{ type: "text", text: String(a + b) }],
    structuredContent: { result: a + b },
  }),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, params } = JSON.parse(line);
  if (id === undefined) continue; // a notification
  const answer = method in methods
    ? { result: methods[method](params) }
    : { error: { code: -32601, message: "Method not found" } };
  process.stdout.write(JSON.stringify({ jsonrpc: "2.0", id, ...answer }) + "\n");
}
