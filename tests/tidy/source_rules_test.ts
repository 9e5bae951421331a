/**
 * Rules about the source text: sizes, marks of unfinished work, permissions, words, hot-path files.
 * Each rule gives file, line and what to do, and each has an example that it must catch.
 */

import assert from "node:assert/strict";
import { codeOnly, commentsOnly, lineOf, readSourceTree, type SourceFile, typescriptFiles } from "./source_tree.ts";

/** Longest file, in lines: "about 500". Every system we learned from rots at the same spot: one giant file. */
const LINE_LIMIT = 520;

/** Files that are longer, each with its reason. */
const LONGER_FILES: Record<string, string> = {};

/** Files that run once per I/O, where a bigint would allocate on every operation. */
const HOT_PATH_ROOMS = [
  "lib/core/",
  "lib/io/",
  "lib/store/",
  "lib/transport/",
  "lib/frontend/",
  "lib/wire/message.ts",
];

/** Files in those rooms that run at set-up time only, where C's 64-bit arguments need bigint. */
const SET_UP_FILES: Record<string, string> = {
  "lib/frontend/nbd_client.ts": "the demo's own application, not the data path",
};

/** Where libraries may be opened. */
const DLOPEN_ROOM = "ffi/";

/** Words that have a better one here (one meaning each), as a pattern for identifiers and comments. */
const FORBIDDEN_WORDS: { readonly pattern: RegExp; readonly use: string }[] = [
  { pattern: /\breplicas?\b|Replica(?![a-z])/g, use: "leg" },
  { pattern: /\bmirrors?\b|\bmirrored\b/gi, use: "leg" },
  { pattern: /\bvolumes?\b/gi, use: "pool" },
  { pattern: /\bquorum\b/gi, use: "in-sync set" },
  { pattern: /\bactive set\b|activeSet/g, use: "in-sync set" },
  { pattern: /\brebuild(s|ing)?\b|\brebuilt\b/gi, use: "resync" },
  { pattern: /\bscrub(s|bing)?\b/gi, use: "verify" },
  { pattern: /\bactivity log\b|activityLog/gi, use: "intent log" },
  { pattern: /\binitiators?\b/gi, use: "client node" },
];

/** Where the words are checked: what we write about our own product. Benchmarks name QEMU's driver by its name. */
const WORD_ROOMS = ["lib/", "cli/", "examples/", "mod.ts", "ffi/"];

interface Finding {
  readonly rule: string;
  readonly where: string;
}

function search(file: SourceFile, text: string, pattern: RegExp, rule: string, found: Finding[]): void {
  for (const match of text.matchAll(pattern)) {
    found.push({ rule, where: `${file.path}:${lineOf(text, match.index)} "${match[0].trim()}"` });
  }
}

/** All findings in `files`. */
function findings(files: readonly SourceFile[]): Finding[] {
  const found: Finding[] = [];
  for (const file of files) {
    const isTidy = file.path.startsWith("tests/tidy/");
    if (!isTidy) {
      search(file, file.text, /\b(TODO|FIXME|XXX|HACK)\b/g, "finish it, or write down why it is so", found);
      search(file, file.text, /\.\.\/shared\b|\/work\/|\/farm\//g, "a path that a user's machine does not have", found);
      search(
        file,
        file.text,
        /--allow-all\b|"-A"|deno (run|test|bench|compile)[^\n"]* -A\b/g,
        "name permissions",
        found,
      );
    }
    if (!file.path.endsWith(".ts")) continue;
    const lines = file.text.split("\n").length - 1;
    if (lines > LINE_LIMIT && LONGER_FILES[file.path] === undefined) {
      found.push({ rule: `at most ${LINE_LIMIT} lines`, where: `${file.path} has ${lines}` });
    }
    const code = codeOnly(file.text);
    if (!file.path.startsWith(DLOPEN_ROOM) && !file.path.startsWith("tests/")) {
      search(file, code, /\bDeno\s*\.\s*dlopen\b/g, "open libraries in ffi/ only", found);
    }
    if (
      HOT_PATH_ROOMS.some((room) => file.path.startsWith(room)) && SET_UP_FILES[file.path] === undefined
    ) {
      search(
        file,
        code,
        /\b\d+n\b|\bBigInt\b|\bbigint\b|\bBig(Int|Uint)64Array\b|\bget[A-Z]\w*64\b/g,
        "no bigint",
        found,
      );
    }
    if (file.path.startsWith("tests/") && !isTidy) {
      search(
        file,
        code,
        /\bignore\s*:|\bDeno\.test\.(ignore|only)\b|\bonly\s*:\s*true|\.skip\(/g,
        "no skipped tests",
        found,
      );
    }
    if (!isTidy) {
      search(file, file.text, /\bcatch\s*(\([^)]*\)\s*)?\{\s*\}/g, "an error must not vanish without a reason", found);
    }
    if (WORD_ROOMS.some((room) => file.path.startsWith(room))) {
      const comments = commentsOnly(file.text);
      for (const word of FORBIDDEN_WORDS) {
        search(file, code, word.pattern, `say "${word.use}"`, found);
        search(file, comments, word.pattern, `say "${word.use}"`, found);
      }
    }
    if (
      /^(lib|cli|ffi|examples)\/|^mod\.ts$/.test(file.path) &&
      !/^\s*(#![^\n]*\n)?(\/\/\/[^\n]*\n)*\s*\/(\*\*|\/)/.test(file.text)
    ) {
      found.push({ rule: "a file opens with what it is for", where: file.path });
    }
    if (/(^|\/)(utils?|helpers?|managers?|misc|common)(_[^/]*)?\.ts$/.test(file.path)) {
      found.push({ rule: "name the file after what it holds", where: file.path });
    }
    if (!/^[a-z0-9_/.]+$/.test(file.path)) found.push({ rule: "snake_case file names", where: file.path });
  }
  return found;
}

Deno.test("the source keeps the rules of the house", () => {
  assert.deepEqual(findings(readSourceTree()).map((finding) => `${finding.where}: ${finding.rule}`), []);
});

Deno.test("every exception names a file that exists and still needs it", () => {
  const files = new Map(readSourceTree().map((file) => [file.path, file]));
  for (const path of Object.keys(LONGER_FILES)) {
    const lines = files.get(path)?.text.split("\n").length ?? 0;
    assert.ok(lines > LINE_LIMIT, `${path} needs no exception any more`);
  }
  for (const path of Object.keys(SET_UP_FILES)) {
    const code = codeOnly(files.get(path)?.text ?? "");
    assert.ok(/\d+n\b|BigInt|bigint|64\b/.test(code), `${path} needs no exception any more`);
  }
});

Deno.test("each rule catches its example", () => {
  const head = "/** What it is for. */\n";
  const examples: [string, string, string][] = [
    ["lib/core/a.ts", `${head}// TO` + `DO later\n`, "finish it"],
    ["lib/core/a.ts", `${head}const a = 1n;\n`, "no bigint"],
    ["lib/io/a.ts", `${head}const a = BigInt(1);\n`, "no bigint"],
    ["lib/core/a.ts", `${head}Deno.dlopen(name, {});\n`, "ffi/ only"],
    ["lib/core/a.ts", `${head}// the rebuild starts\n`, 'say "resync"'],
    ["lib/core/a.ts", `${head}try { a(); } catch { }\n`, "vanish"],
    ["lib/core/a.ts", "const a = 1;\n", "opens with"],
    ["lib/core/a.ts", head + "a;\n".repeat(LINE_LIMIT + 1), "lines"],
    ["lib/core/helpers.ts", head, "name the file"],
    ["lib/core/Leg.ts", head, "snake_case"],
    ["tests/unit/a_test.ts", `Deno.test({ ignore: true });\n`, "skipped"],
    ["README.md", "deno run -A main.ts\n", "name permissions"],
    ["README.md", "see /work/x\n", "path"],
  ];
  for (const [path, text, rule] of examples) {
    const found = findings([{ path, text }]);
    assert.ok(found.some((finding) => finding.rule.includes(rule)), `${path} ${rule}: ${JSON.stringify(found)}`);
  }
  assert.deepEqual(findings([{ path: "lib/core/a.ts", text: `${head}const text = "1n of a mirror";\n` }]), []);
});

Deno.test("typescript files are found at all", () => {
  assert.ok(typescriptFiles(readSourceTree()).length > 10);
});
