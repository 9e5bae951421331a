import assert from "node:assert/strict";
import { chooseNodes, type ConfigSources } from "../../../cli/node_list.ts";
import { ControlError, type ControlErrorCode } from "../../../lib/control/control_api.ts";

const NOTHING = { permissions: "none" } as const;

function sources(env: Record<string, string>, files: Record<string, string>): ConfigSources {
  return { env: (name) => env[name], readText: (path) => files[path] ?? null };
}

function nodesOf(port: number): string {
  return `nodes = ["10.0.0.1:${port}"]`;
}

function refuses(work: () => unknown, code: ControlErrorCode, pattern: RegExp): void {
  assert.throws(work, (error) => {
    assert(error instanceof ControlError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, pattern);
    return true;
  });
}

Deno.test(
  "chooseNodes(): the command line wins over environment, environment over files, in a fixed order",
  NOTHING,
  () => {
    const env = { BRMR_NODES: "10.0.0.1:2, 10.0.0.1:3", BRMR_CONFIG: "/named.toml", HOME: "/home/u" };
    const files: Record<string, string> = {
      "/flag.toml": nodesOf(4),
      "/named.toml": nodesOf(5),
      "/xdg/brmr/config.toml": nodesOf(6),
      "/home/u/.config/brmr/config.toml": nodesOf(7),
      "/etc/brmr/config.toml": nodesOf(8),
    };
    const ports = (choice: { node?: string[]; config?: string }, variables: Record<string, string>) =>
      chooseNodes(choice, sources(variables, files)).map((address) => Number(address.split(":")[1]));
    assert.deepEqual(ports({ node: ["10.0.0.1:1"], config: "/flag.toml" }, env), [1]);
    assert.deepEqual(ports({ config: "/flag.toml" }, env), [4]);
    assert.deepEqual(ports({}, env), [2, 3]);
    assert.deepEqual(ports({}, { ...env, BRMR_NODES: "" }), [5]);
    assert.deepEqual(ports({}, { HOME: "/home/u", XDG_CONFIG_HOME: "/xdg" }), [6]);
    assert.deepEqual(ports({}, { HOME: "/home/u" }), [7]);
    assert.deepEqual(ports({}, {}), [8]);
    assert.deepEqual(chooseNodes({}, sources({}, {})), []);
  },
);

Deno.test("chooseNodes() gives each node once, in its one spelling", NOTHING, () => {
  const node = ["tcp://Host:1", "host:1", "[::1]:2"];
  assert.deepEqual(chooseNodes({ node }, sources({}, {})), ["host:1", "[::1]:2"]);
});

Deno.test("chooseNodes() says what is wrong with a config file", NOTHING, () => {
  const withFile = (text: string) => () => chooseNodes({ config: "/c" }, sources({}, { "/c": text }));
  refuses(() => chooseNodes({ config: "/absent" }, sources({}, {})), "not-found", /\/absent/);
  refuses(withFile("nodes = ["), "bad-request", /\/c is not TOML/);
  refuses(withFile("nodes = 5"), "bad-request", /wrong at "nodes"/);
  refuses(withFile("node = []"), "bad-request", /has a key "node"/);
  refuses(withFile('nodes = ["x"]'), "bad-request", /HOST:PORT/);
});

Deno.test("examples/brmr.toml is a config file", () => {
  const text = Deno.readTextFileSync(new URL("../../../examples/brmr.toml", import.meta.url));
  const nodes = chooseNodes({ config: "/c" }, sources({}, { "/c": text }));
  assert.deepEqual(nodes, ["127.0.0.1:7701", "127.0.0.1:7702"]);
});
