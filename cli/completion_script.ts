/**
 * Completion scripts for bash, zsh and fish, made from a plain description of the commands. Pure.
 *
 * The scripts are static: they know commands, options and fixed values, complete file names where a path belongs, and never
 * start brmr, so a Tab costs nothing and reaches no network.
 *
 * @module
 */

/** What may stand where a value belongs. */
export type ValueKind = "none" | "word" | "file" | "directory";

/** One option. */
export interface OptionShape {
  /** All spellings: "-h", "--help". */
  readonly names: readonly string[];
  readonly description: string;
  readonly value: ValueKind;
  /** Fixed values, if it has some. */
  readonly choices: readonly string[];
}

/** One command, and those under it. */
export interface CommandShape {
  readonly name: string;
  readonly description: string;
  readonly options: readonly OptionShape[];
  /** For each positional argument its fixed values; empty where anything may stand. */
  readonly positionals: readonly (readonly string[])[];
  readonly commands: readonly CommandShape[];
}

/** Shells there is a script for. */
export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = typeof SHELLS[number];

/** The script for `shell`. */
export function completionScript(shell: Shell, program: CommandShape): string {
  switch (shell) {
    case "bash":
      return bashScript(program);
    case "zsh":
      return zshScript(program);
    case "fish":
      return fishScript(program);
  }
}

interface Place {
  /** Names of the commands that lead here, e.g. ["pool", "create"]. */
  readonly path: readonly string[];
  readonly command: CommandShape;
}

/** `program` and everything under it, parents first. */
function placesOf(command: CommandShape, path: readonly string[] = []): Place[] {
  return [{ path, command }, ...command.commands.flatMap((child) => placesOf(child, [...path, child.name]))];
}

function takesValue(option: OptionShape): boolean {
  return option.value !== "none";
}

/**
 * bash and zsh walk the words typed so far in the same way: a word that is a subcommand here leads down, an option
 * that takes a value swallows the next word, anything else is a positional.
 */
function walkCases(program: CommandShape): string {
  let text = "";
  for (const { path, command } of placesOf(program)) {
    const here = path.join(" ");
    for (const child of command.commands) {
      text += `      "${here}|${child.name}") at="${[...path, child.name].join(" ")}" ;;\n`;
    }
    const swallowing = command.options.filter(takesValue).flatMap((option) => option.names);
    if (swallowing.length > 0) text += `      ${swallowing.map((name) => `"${here}|${name}"`).join("|")}) skip=1 ;;\n`;
  }
  return text;
}

function bashScript(program: CommandShape): string {
  const name = program.name;
  let values = "";
  let words = "";
  for (const { path, command } of placesOf(program)) {
    const here = path.join(" ");
    for (const option of command.options.filter(takesValue)) {
      const pattern = option.names.map((spelling) => `"${here}|${spelling}"`).join("|");
      const reply = option.choices.length > 0
        ? `COMPREPLY=($(compgen -W "${option.choices.join(" ")}" -- "$cur"))`
        : option.value === "file"
        ? `compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur"))`
        : option.value === "directory"
        ? `compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -d -- "$cur"))`
        : ":";
      values += `    ${pattern}) ${reply}; return ;;\n`;
    }
    const options = command.options.flatMap((option) => option.names).join(" ");
    const children = command.commands.map((child) => child.name).join(" ");
    words += `    "${here}|option") words="${options}" ;;\n`;
    if (children !== "") words += `    "${here}|0") words="${children}" ;;\n`;
    command.positionals.forEach((choices, index) => {
      if (choices.length > 0) words += `    "${here}|${index}") words="${choices.join(" ")}" ;;\n`;
    });
  }
  return `# Completions of ${name} for bash. Load with: source <(${name} completions bash)
_${name}() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}"
  local at="" skip=0 position=0 words="" word i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="\${COMP_WORDS[i]}"
    if ((skip)); then skip=0; continue; fi
    case "$at|$word" in
${walkCases(program)}      *"|-"*) ;;
      *) ((position++)) ;;
    esac
  done
  case "$at|$prev" in
${values}  esac
  case "$cur" in
    -*) position="option" ;;
  esac
  case "$at|$position" in
${words}  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _${name} ${name}
`;
}

function zshScript(program: CommandShape): string {
  const name = program.name;
  let values = "";
  let words = "";
  for (const { path, command } of placesOf(program)) {
    const here = path.join(" ");
    for (const option of command.options.filter(takesValue)) {
      const pattern = option.names.map((spelling) => `"${here}|${spelling}"`).join("|");
      const reply = option.choices.length > 0
        ? `compadd -- ${option.choices.join(" ")}`
        : option.value === "file"
        ? "_files"
        : option.value === "directory"
        ? "_files -/"
        : ":";
      values += `    ${pattern}) ${reply}; return ;;\n`;
    }
    const described = (entries: readonly (readonly [string, string])[]) =>
      entries.map(([word, description]) => zshQuote(`${word.replaceAll(":", "\\:")}:${description}`)).join(" ");
    const options = command.options.flatMap((option) =>
      option.names.map((spelling) => [spelling, option.description] as const)
    );
    words += `    "${here}|option") described=(${described(options)}) ;;\n`;
    if (command.commands.length > 0) {
      const children = command.commands.map((child) => [child.name, child.description] as const);
      words += `    "${here}|0") described=(${described(children)}) ;;\n`;
    }
    command.positionals.forEach((choices, index) => {
      if (choices.length > 0) {
        words += `    "${here}|${index}") described=(${
          described(choices.map((choice) => [choice, ""] as const))
        }) ;;\n`;
      }
    });
  }
  return `#compdef ${name}
# Completions of ${name} for zsh. Load with: source <(${name} completions zsh)
_${name}() {
  local cur="\${words[CURRENT]}" prev="\${words[CURRENT-1]}"
  local at="" word position=0 skip=0 i
  local -a described
  for ((i = 2; i < CURRENT; i++)); do
    word="\${words[i]}"
    if ((skip)); then skip=0; continue; fi
    case "$at|$word" in
${walkCases(program)}      *"|-"*) ;;
      *) ((position++)) ;;
    esac
  done
  case "$at|$prev" in
${values}  esac
  [[ "$cur" == -* ]] && position="option"
  case "$at|$position" in
${words}  esac
  _describe '${name}' described
}
compdef _${name} ${name}
`;
}

function zshQuote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function fishScript(program: CommandShape): string {
  const name = program.name;
  let text = `# Completions of ${name} for fish. Load with: ${name} completions fish | source\n`;
  text += `complete -c ${name} -f\n`;
  for (const { path, command } of placesOf(program)) {
    const condition = fishCondition(path, command);
    for (const child of command.commands) {
      text += `complete -c ${name} -n ${condition} -a ${child.name} -d ${fishQuote(child.description)}\n`;
    }
    for (const choices of command.positionals) {
      if (choices.length > 0) text += `complete -c ${name} -n ${condition} -a ${fishQuote(choices.join(" "))}\n`;
    }
    for (const option of command.options) {
      const spellings = option.names.map((spelling) =>
        spelling.startsWith("--") ? `-l ${spelling.slice(2)}` : `-s ${spelling.slice(1)}`
      ).join(" ");
      const value = option.choices.length > 0
        ? ` -x -a ${fishQuote(option.choices.join(" "))}`
        : option.value === "file"
        ? " -r -F"
        : option.value === "directory"
        ? " -x -a '(__fish_complete_directories)'"
        : option.value === "word"
        ? " -x"
        : "";
      text += `complete -c ${name} -n ${condition} ${spellings}${value} -d ${fishQuote(option.description)}\n`;
    }
  }
  return text;
}

function fishCondition(path: readonly string[], command: CommandShape): string {
  if (path.length === 0) return "__fish_use_subcommand";
  const parents = path.map((word) => `__fish_seen_subcommand_from ${word}`);
  const children = command.commands.map((child) => child.name).join(" ");
  if (children !== "") parents.push(`not __fish_seen_subcommand_from ${children}`);
  return `'${parents.join("; and ")}'`;
}

function fishQuote(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
