/**
 * Which room may import which. The direction of imports is the architecture; this test is where it is written down so
 * that it cannot rot.
 */

import assert from "node:assert/strict";
import { importCircles, type ImportEdge, importEdges, readSourceTree, roomOf } from "./source_tree.ts";

/** Rooms (or single files) that a room may import, besides itself. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  "lib/base": [],
  "lib/wire": ["lib/base"],
  "lib/disk_format": ["lib/base"],
  "lib/core": ["lib/base", "lib/wire", "lib/disk_format"],
  "ffi": ["lib/base"],
  "lib/io": ["lib/base", "ffi"],
  // Probing and formatting a device answer a person, so they speak in the error codes of the control API.
  "lib/store": ["lib/base", "lib/disk_format", "lib/io", "ffi", "lib/control/control_api.ts"],
  "lib/transport": ["lib/base", "lib/wire", "lib/io", "ffi"],
  "lib/frontend": ["lib/base", "lib/io", "ffi", "lib/core/request_kind.ts"],
  "lib/control": ["lib/base", "lib/wire", "lib/disk_format", "lib/core"],
  "lib/node": [
    "lib/base",
    "lib/wire",
    "lib/disk_format",
    "lib/core",
    "lib/io",
    "lib/store",
    "lib/transport",
    "lib/frontend",
    "lib/control",
    "ffi",
  ],
  "lib/demo": ["lib/base", "lib/disk_format", "lib/core", "lib/control", "lib/frontend", "lib/node"],
  "mod.ts": [
    "lib/demo",
    "lib/base",
    "lib/wire",
    "lib/disk_format",
    "lib/core",
    "lib/io",
    "lib/control",
    "lib/node",
    "lib/frontend",
  ],
  // Subcommands import what they need and no more: "brmr status" must not pay for loading the data plane.
  "cli": [
    "mod.ts",
    "lib/base",
    "lib/wire",
    "lib/disk_format",
    "lib/core",
    "lib/control",
    "lib/frontend",
    "lib/node",
    "ffi",
  ],
  "examples": ["mod.ts"],
  // The macro benchmarks start pools exactly as the integration tests do, so they share that one file.
  "bench/macro": ["mod.ts", "tests"],
  // Those in virtual machines lie in the bed of the suites.
  "bench/vm": ["bench/macro/statistics.ts", "tests"],
};

function refusals(edges: readonly ImportEdge[]): string[] {
  const refused: string[] = [];
  for (const edge of edges) {
    const source = roomOf(edge.source);
    const target = roomOf(edge.target);
    const allowed = MAY_IMPORT[source];
    // Tests and micro benchmarks may look into every room.
    if (allowed === undefined || source === target || allowed.includes(target) || allowed.includes(edge.target)) {
      continue;
    }
    // deno.json says which version this is.
    if (edge.target === "deno.json") continue;
    refused.push(`${edge.source}:${edge.line} imports ${edge.target}: ${source} may only import ${allowed.join(", ")}`);
  }
  return refused;
}

Deno.test("imports run one way", () => {
  assert.deepEqual(refusals(importEdges(readSourceTree())), []);
});

Deno.test("every room of lib has its import directions written down", () => {
  const rooms = new Set(readSourceTree().map((file) => roomOf(file.path)).filter((room) => room.startsWith("lib/")));
  assert.deepEqual([...rooms].filter((room) => MAY_IMPORT[room] === undefined), []);
});

Deno.test("there is no circle of imports, file by file", () => {
  // In the product a circle of types counts too, for it is a circle of ideas; the simulator's parts may know each other's types.
  const edges = importEdges(readSourceTree()).filter((edge) => !(edge.source.startsWith("tests/") && edge.isTypeOnly));
  assert.deepEqual(importCircles(edges).map((circle) => circle.join(" -> ")), []);
});

Deno.test("every imported file of ours exists", () => {
  const files = readSourceTree();
  const paths = new Set(files.map((file) => file.path));
  const missing = importEdges(files).filter((edge) => /\.ts$/.test(edge.target) && !paths.has(edge.target));
  assert.deepEqual(missing.map((edge) => `${edge.source}:${edge.line} ${edge.specifier}`), []);
});

Deno.test("bench/macro takes nothing but the cluster harness from tests", () => {
  const taken = importEdges(readSourceTree())
    .filter((edge) => edge.source.startsWith("bench/macro/") && edge.target.startsWith("tests/"))
    .map((edge) => edge.target);
  assert.deepEqual([...new Set(taken)].filter((path) => !path.startsWith("tests/integration/cluster")), []);
});

Deno.test("the import rules catch a wrong direction and a circle", () => {
  const edge = (source: string, target: string): ImportEdge => ({
    source,
    target,
    specifier: "",
    line: 1,
    isTypeOnly: false,
  });
  assert.equal(refusals([edge("lib/core/leg.ts", "lib/io/reactor.ts")]).length, 1);
  assert.equal(refusals([edge("cli/main.ts", "lib/store/leg.ts")]).length, 1);
  assert.equal(refusals([edge("lib/core/leg.ts", "lib/base/assert.ts")]).length, 0);
  const circle = [edge("lib/a/a.ts", "lib/a/b.ts"), edge("lib/a/b.ts", "lib/a/c.ts"), edge("lib/a/c.ts", "lib/a/a.ts")];
  assert.equal(importCircles(circle).length, 1);
  assert.equal(importCircles(circle.slice(0, 2)).length, 0);
});
