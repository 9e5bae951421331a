/**
 * The source tree as the tidy tests see it: every tracked file with its text, and every import that one of our files
 * makes of another of our files.
 *
 * Works on what is on disk below the repository root; `dist`, `node_modules`, `coverage` and dot-folders are left out.
 *
 * @module
 */

import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

/** One file of the tree. `path` is relative to the root, with forward slashes. */
export interface SourceFile {
  readonly path: string;
  readonly text: string;
}

/** One import. `target` is relative to the root; `specifier` is as written. */
export interface ImportEdge {
  readonly source: string;
  readonly target: string;
  readonly specifier: string;
  readonly line: number;
  /** `import type`: nothing is loaded because of it. */
  readonly isTypeOnly: boolean;
}

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const LEFT_OUT = new Set(["dist", "node_modules", "coverage"]);
const TEXT_FILE = /\.(ts|js|json|md|sh|c|toml|txt|yml)$|(^|\/)(LICENSE|run)$/;

function walk(directory: string, found: SourceFile[]): void {
  for (const entry of Deno.readDirSync(directory)) {
    if (LEFT_OUT.has(entry.name) || (entry.name.startsWith(".") && entry.name !== ".ci")) continue;
    const path = join(directory, entry.name);
    if (entry.isDirectory) walk(path, found);
    else if (entry.isFile && TEXT_FILE.test(entry.name)) {
      found.push({ path: relative(ROOT, path).replaceAll("\\", "/"), text: Deno.readTextFileSync(path) });
    }
  }
}

/** All text files of the repository, in a fixed order. */
export function readSourceTree(): SourceFile[] {
  const found: SourceFile[] = [];
  walk(ROOT, found);
  return found.sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** The TypeScript files among `files`. */
export function typescriptFiles(files: readonly SourceFile[]): SourceFile[] {
  return files.filter((file) => file.path.endsWith(".ts"));
}

/** The line number (from 1) of `index` in `text`. */
export function lineOf(text: string, index: number): number {
  let line = 1;
  for (let i = 0; i < index; i++) if (text.charCodeAt(i) === 10) line++;
  return line;
}

/**
 * `text` with the contents of comments and strings blanked out (same length, same lines), so that a search finds code
 * only. Template literals are blanked whole, which hides code inside `${}`: good enough for the searches here.
 */
export function codeOnly(text: string): string {
  return text.replace(
    /\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`/g,
    (match) => match.replace(/[^\n]/g, " "),
  );
}

/** Only the comments of `text`; everything else is blanked out (same length, same lines). */
export function commentsOnly(text: string): string {
  let result = "";
  let end = 0;
  const blank = (part: string) => part.replace(/[^\n]/g, " ");
  for (
    const match of text.matchAll(
      /\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`/g,
    )
  ) {
    result += blank(text.slice(end, match.index));
    result += match[0].startsWith("/") ? match[0] : blank(match[0]);
    end = match.index + match[0].length;
  }
  return result + blank(text.slice(end));
}

const IMPORT =
  /(?:^|\n)\s*(?:import|export)\b[^"'`;]*?(?:from\s*)?["'](\.{1,2}\/[^"']+)["']|\bimport\(\s*["'](\.{1,2}\/[^"']+)["']\s*\)/g;

/** Every import among our own files, types included. */
export function importEdges(files: readonly SourceFile[]): ImportEdge[] {
  const edges: ImportEdge[] = [];
  for (const file of typescriptFiles(files)) {
    for (const match of file.text.matchAll(IMPORT)) {
      const specifier = match[1] ?? match[2];
      const target = join(dirname(file.path), specifier).replaceAll("\\", "/");
      edges.push({
        source: file.path,
        target,
        specifier,
        line: lineOf(file.text, match.index + match[0].length),
        isTypeOnly: /^\s*(import|export)\s+type\b/.test(match[0]),
      });
    }
  }
  return edges;
}

/** The room of a file: `lib/<room>`, or its top-level folder, or the file itself at the top. */
export function roomOf(path: string): string {
  const parts = path.split("/");
  if (parts[0] === "lib" && parts.length > 2) return `lib/${parts[1]}`;
  if (parts[0] === "bench" && parts.length > 2) return `bench/${parts[1]}`;
  return parts.length > 1 ? parts[0] : path;
}

/** Circles of imports, each as the list of files it goes through. Empty when there is none. */
export function importCircles(edges: readonly ImportEdge[]): string[][] {
  const targetsOf = new Map<string, string[]>();
  for (const edge of edges) {
    const targets = targetsOf.get(edge.source);
    if (targets === undefined) targetsOf.set(edge.source, [edge.target]);
    else targets.push(edge.target);
  }
  const circles: string[][] = [];
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (file: string): void => {
    const at = path.indexOf(file);
    if (at !== -1) {
      circles.push([...path.slice(at), file]);
      return;
    }
    if (done.has(file)) return;
    path.push(file);
    for (const target of targetsOf.get(file) ?? []) visit(target);
    path.pop();
    done.add(file);
  };
  for (const file of targetsOf.keys()) visit(file);
  return circles;
}
