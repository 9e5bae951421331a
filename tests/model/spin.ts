/**
 * `deno task model:epochs`: Spin goes through every order of events of the protocol of claims, epochs and fencing (epochs.pml) within
 * small bounds, and finds each mistake that is planted in it. Needs `spin` and `gcc`.
 *
 * `--deep` explores larger worlds, for as long as they take.
 *
 * @module
 */

const MODEL = new URL("epochs.pml", import.meta.url).pathname;
const MEMORY_MIB = 6000;

/** Sizes of a world: macros of the model. */
type World = Readonly<Record<string, number>>;

interface Case {
  readonly name: string;
  readonly world: World;
}

const NO_FAULTS: World = { LEGS: 2, WRITES: 2, STARTS: 2, LEG_ENDS: 0, CLIENT_ENDS: 0, BREAKS: 0, MAX_GENERATION: 3 };

/** Explored to the end: in none of them may anything be lost. */
const WORLDS: readonly Case[] = [
  { name: "a client ends, another takes over", world: { ...NO_FAULTS, CLIENT_ENDS: 1 } },
  { name: "a leg ends and comes back, a client takes over", world: { ...NO_FAULTS, LEG_ENDS: 1 } },
  { name: "a connection breaks, a client takes over", world: { ...NO_FAULTS, BREAKS: 1 } },
  {
    name: "a leg and a client end, a caretaker",
    world: { ...NO_FAULTS, LEG_ENDS: 1, CLIENT_ENDS: 1, CARETAKER: 1, WRITES: 1 },
  },
];

/** Larger ones, for runs of their own. */
const DEEP_WORLDS: readonly Case[] = [
  { name: "three legs of which two are needed", world: { ...NO_FAULTS, LEGS: 3, LEAST: 2, CLIENT_ENDS: 1, WRITES: 1 } },
  {
    name: "a leg and a client end, a caretaker, two writes",
    world: { ...NO_FAULTS, LEG_ENDS: 1, CLIENT_ENDS: 1, CARETAKER: 1 },
  },
  {
    name: "a leg and a client end, three lives",
    world: { ...NO_FAULTS, LEG_ENDS: 1, CLIENT_ENDS: 1, STARTS: 3, MAX_GENERATION: 4 },
  },
  { name: "three legs, one ends", world: { ...NO_FAULTS, LEGS: 3, LEAST: 2, LEG_ENDS: 1, CLIENT_ENDS: 1, WRITES: 1 } },
];

const ALL_FAULTS: World = { LEGS: 2, WRITES: 2, STARTS: 3, LEG_ENDS: 1, CLIENT_ENDS: 1, BREAKS: 1, MAX_GENERATION: 4 };

/** Mistakes in the protocol, and a world in which each of them does harm. */
const PLANTS: readonly Case[] = [
  { name: "NO_FENCE", world: ALL_FAULTS },
  { name: "NO_DRAIN", world: { ...NO_FAULTS, CLIENT_ENDS: 1 } },
  { name: "PROMISE_FORGOTTEN", world: ALL_FAULTS },
  { name: "EPOCH_BEFORE_DURABLE", world: ALL_FAULTS },
  { name: "DROP_LEAVES_CLEAN", world: ALL_FAULTS },
  { name: "NO_INTENT", world: ALL_FAULTS },
  { name: "ANY_MEMBER_STARTS", world: ALL_FAULTS },
  { name: "NEVER_SUPERSEDED", world: ALL_FAULTS },
  { name: "NO_RECONCILE", world: ALL_FAULTS },
  { name: "ACK_BEFORE_EPOCH", world: ALL_FAULTS },
  { name: "JOIN_WITHOUT_RESYNC", world: ALL_FAULTS },
];

/** What a search has found. */
interface Outcome {
  readonly states: number;
  readonly seconds: number;
  /** The assertion that failed, or "". */
  readonly violation: string;
  /** Whether nothing within the bounds was left out. */
  readonly isComplete: boolean;
}

async function run(command: string, args: readonly string[], cwd: string): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(command, { args: [...args], cwd }).output();
  const decoder = new TextDecoder();
  if (code !== 0) throw new Error(`${command} ${args.join(" ")}: ${decoder.decode(stdout)}${decoder.decode(stderr)}`);
  return decoder.decode(stdout);
}

/** Builds a searcher and runs it. A planted mistake is found soon, so that compiling it well would take longer than it saves. */
async function search(world: World, plant: string): Promise<Outcome> {
  const directory = await Deno.makeTempDir({ prefix: "brmr-model-" });
  try {
    const macros = Object.entries(world).map(([name, value]) => `-D${name}=${value}`);
    if (plant !== "") macros.push(`-DPLANT_${plant}`);
    await run("spin", [...macros, "-a", MODEL], directory);
    const optimize = plant === "" ? "-O2" : "-O0";
    const options = ["-DCOLLAPSE", "-DSAFETY", "-DVECTORSZ=2048", `-DMEMLIM=${MEMORY_MIB}`];
    await run("gcc", [optimize, ...options, "-w", "-o", "pan", "pan.c"], directory);
    const startMs = performance.now();
    // Worlds come to rest when their bounds are reached: that nothing can happen then is no fault.
    const text = await run("./pan", ["-E", "-m1000000"], directory);
    return {
      states: Number(/(\d+(?:\.\d+)?(?:e\+?\d+)?) states, stored/.exec(text)?.[1] ?? 0),
      seconds: (performance.now() - startMs) / 1000,
      violation: /assertion violated (.*) \(at depth/.exec(text)?.[1] ?? "",
      isComplete: /errors: 0\b/.test(text) && !/Search not completed|max search depth too small/.test(text),
    };
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

async function main(): Promise<void> {
  let failures = 0;
  let states = 0;
  for (const { name, world } of Deno.args.includes("--deep") ? DEEP_WORLDS : WORLDS) {
    const outcome = await search(world, "");
    states += outcome.states;
    const fate = outcome.violation !== ""
      ? `BROKEN: ${outcome.violation}`
      : outcome.isComplete
      ? "holds"
      : "NOT COMPLETE";
    if (fate !== "holds") failures++;
    console.log(`${fate}: ${name}, ${outcome.states} states in ${outcome.seconds.toFixed(1)} s`);
  }
  for (const { name, world } of PLANTS) {
    const outcome = await search(world, name);
    if (outcome.violation === "") failures++;
    console.log(`${outcome.violation === "" ? "NOT FOUND" : "found"}: ${name} after ${outcome.states} states`);
  }
  console.log(
    `worlds of the model explored to the end: ${states} states; ${PLANTS.length} planted mistakes; failures ${failures}`,
  );
  Deno.exit(failures === 0 ? 0 : 1);
}

if (import.meta.main) await main();
