import assert from "node:assert/strict";
import { Exposition, MetricFamily } from "../../../cli/exposition.ts";
import { AssertionFailure } from "../../../lib/base/assert.ts";
import { readExposition } from "./exposition_grammar.ts";

const NOTHING = { permissions: "none" } as const;

Deno.test("labels and help are escaped as the format says", NOTHING, () => {
  const family = new MetricFamily("a_bytes", "gauge", 'one "two" \\ three\nfour');
  family.add({ name: 'back\\slash "quoted"\nnext, {brace} = é' }, 1.5);
  const text = String(family);
  assert.equal(
    text,
    '# HELP a_bytes one "two" \\\\ three\\nfour\n# TYPE a_bytes gauge\n' +
      'a_bytes{name="back\\\\slash \\"quoted\\"\\nnext, {brace} = é"} 1.5\n',
  );
  assert.equal(readExposition(text).size, 1);
});

Deno.test("every number is written as Go reads it", NOTHING, () => {
  const values = [0, -0, 1, -2.5, 2 ** 53, 1e21, 1e-7, NaN, Infinity, -Infinity, true, false];
  const text = new Exposition();
  const family = text.family("a", "gauge", "help");
  for (const [at, value] of values.entries()) family.add({ at: String(at) }, value);
  assert.deepEqual([...readExposition(String(text)).values()], values.map((value) => Number(value) + 0));
});

Deno.test("what nobody knows has no sample, and a family without samples no head", NOTHING, () => {
  const text = new Exposition();
  const unknown = text.family("unknown", "gauge", "help");
  unknown.add({}, null);
  unknown.add({ a: "b" }, undefined);
  text.family("known_total", "counter", "help").add({}, 7);
  assert.equal(String(text), "# HELP known_total help\n# TYPE known_total counter\nknown_total 7\n");
});

Deno.test("families keep their order and their samples together, whatever order these come in", NOTHING, () => {
  const text = new Exposition();
  const [first, second] = ["b", "a"].map((name) => text.family(name, "gauge", "help"));
  second.add({ x: "1" }, 1);
  first.add({ x: "1" }, 2);
  second.add({ x: "2" }, 3);
  assert.deepEqual([...readExposition(String(text))], [['b{x="1"}', 2], ['a{x="1"}', 1], ['a{x="2"}', 3]]);
});

Deno.test("a text that would be refused is not written", NOTHING, () => {
  const text = new Exposition();
  const family = text.family("a", "gauge", "help");
  family.add({ x: "1" }, 1);
  const wrong = [
    () => family.add({ x: "1" }, 2),
    () => family.add({ "x-y": "1" }, 2),
    () => family.add({ __x: "1" }, 2),
    () => text.family("a", "gauge", "help"),
    () => text.family("1a", "gauge", "help"),
    () => text.family("a_total", "gauge", "help"),
    () => text.family("b", "counter", "help"),
  ];
  for (const each of wrong) assert.throws(each, AssertionFailure, String(each));
});

Deno.test("the checker refuses what Prometheus refuses", NOTHING, () => {
  const head = "# HELP a help\n# TYPE a gauge\n";
  const wrong = [
    "a 1\n",
    `${head}a 1`,
    `${head}a one\n`,
    `${head}a{x=1} 1\n`,
    `${head}a{x="1"y="2"} 1\n`,
    `${head}a{x="1",x="2"} 1\n`,
    `${head}a{x="a\\d"} 1\n`,
    `${head}a{x="a"b"} 1\n`,
    `${head}a 1\na 1\n`,
    `${head}a 1 1700000000\n`,
    `${head}b 1\n`,
    `${head}a 1\n# HELP b help\n# TYPE b gauge\nb 1\na{x="1"} 1\n`,
    `${head}a 1\n# HELP b help\n# TYPE b gauge\nb 1\n${head}a{x="1"} 1\n`,
    "# HELP a help\na 1\n",
    "# HELP a_total help\n# TYPE a_total gauge\na_total 1\n",
    "# HELP a help\n# TYPE a count\na 1\n",
    `${head}\na 1\n`,
  ];
  for (const each of wrong) assert.throws(() => readExposition(each), assert.AssertionError, each);
  assert.deepEqual([...readExposition(`${head}a{x="1"} 1\na{x="\\\\\\"\\n"} -2e+21\n`).values()], [1, -2e21]);
});
