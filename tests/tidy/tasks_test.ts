/**
 * The tasks of deno.json, which nothing else looks at before somebody runs them: JSON takes a key twice without a word, and a
 * command whose script has moved is found by who needs it.
 */

import assert from "node:assert/strict";
import { readSourceTree } from "./source_tree.ts";

/** What is wrong with the tasks of a configuration, of which `paths` are the files of the tree. */
function findings(configuration: string, paths: ReadonlySet<string>): string[] {
  const found: string[] = [];
  const { tasks } = JSON.parse(configuration) as { tasks: Record<string, { description?: string; command?: string }> };
  for (const [name, task] of Object.entries(tasks)) {
    const count = configuration.split(`\n    ${JSON.stringify(name)}: {`).length - 1;
    if (count !== 1) found.push(`${name} is there ${count} times`);
    if (!task.description) found.push(`${name} has no description`);
    for (const [path] of (task.command ?? "").matchAll(/\b(?:cli|bench|tests|examples|tools)\/[\w/.-]+\.ts\b/g)) {
      if (!paths.has(path)) found.push(`${name} runs ${path}, which is not there`);
    }
  }
  return found;
}

Deno.test("every task is there once, says what it does, and runs what exists", () => {
  const tree = readSourceTree();
  const configuration = tree.find((file) => file.path === "deno.json");
  assert.deepEqual(findings(configuration!.text, new Set(tree.map((file) => file.path))), []);
});

Deno.test("a task that is there twice, one without a script and one without a word are found", () => {
  const task = (name: string, description: string, command: string) =>
    `    "${name}": {\n      "description": "${description}",\n      "command": "${command}"\n    }`;
  const tasks = [
    task("a", "one", "deno run bench/a.ts"),
    task("a", "two", "deno run bench/a.ts"),
    task("b", "gone", "deno run bench/b.ts --quick"),
    task("c", "", "deno fmt"),
  ];
  assert.deepEqual(findings(`{\n  "tasks": {\n${tasks.join(",\n")}\n  }\n}\n`, new Set(["bench/a.ts"])), [
    "a is there 2 times",
    "b runs bench/b.ts, which is not there",
    "c has no description",
  ]);
});
