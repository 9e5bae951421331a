/**
 * Scenarios: short text files that tell a story to the simulator, one command a line, with the trace it gives printed
 * beneath. The first lines say in words what the story shows. No chance is involved.
 *
 *     # A leg dies in the middle of a write
 *     pool legs=2 chunks=64
 *     until in-sync 11
 *     write 0+8
 *     run 1 ms
 *     kill leg-1
 *     until idle
 *     expect dirty leg-0 leg-1 1
 *
 * Commands:
 *
 *     pool legs=N chunks=N extent-chunks=N hot=N min-in-sync=N io-timeout=MS depth=N heartbeat=MS readers=N paths=N credit=BYTES     first of all; all have defaults
 *     write|read|zero|discard FIRST+COUNT [fua] [by client|reader-N]     sectors of 512 bytes; begins, does not wait
 *     flush
 *     run N ms
 *     until idle | until ready | until detached | until refused | until in-sync MASK | until resyncing leg-N [N s]
 *     takeover                    the other client ("client-2") takes the pool from the one that has it         back   "client" is the former one
 *     kill|power leg-N|client          start leg-N|client [takeover] [force [without N]]          pause leg-N|client N ms          detach
 *     cut-path leg-N PATH N ms         break-path leg-N PATH        (paths are numbered from 1, pool paths=2)
 *     cut WHO to WHO N ms              break WHO WHO                          slow leg-N FACTOR
 *     fail leg-N read|write|zero|flush|metadata           the next such operation ends with EIO
 *     delay leg-N read|write|zero|flush|metadata MS       the next such operation takes so much longer
 *     rot-intents leg-N           both copies of the first block of the intent log of a leg that is down
 *     drain|undrain|remove leg-N       add leg-N [replacing leg-M]     (of pool spare=N)  exchange leg-N (for a new disk)
 *     exchange leg-N alone             as its node does by itself, whatever the others are doing
 *     unreadable|rot leg-N FIRST+COUNT         verify [repair] [refused TEXT]         until changed     until verified
 *     stranger leg-N as client|peer|control     somebody without a claim visits the leg and asks for things
 *     forge WHO WHO [N times] TYPE [FIELD=VALUE]...     a frame more on the connection between them
 *     garble WHO WHO TYPE [FIELD=VALUE]... [words=N,...]     the next such frame says something else
 *     fill|make-room leg-N     its disk has no space for what was never written        rot-maps leg-N (which is down)
 *     suspend WHO N (ms: it stands still, its clock too)   wall-clock WHO N (ms off)   install WHO newer|much-newer|demanding|ours
 *     ask read|zero FIRST+COUNT     also what is out of range         stop-verify         slots none|some (for repair)
 *     operator COMMAND            drain, undrain, remove, add, verify: by an operator's session of its own, no client being there
 *     kill operator               until ordered               expect ordered              expect order-refused TEXT
 *     expect changed | expect refused TEXT | expect verified STATE DIFFERENCES REPAIRED-BYTES
 *     throttle leg-N BYTES             pause-resync leg-N                     resume-resync leg-N
 *     expect in-sync MASK | expect dirty leg-N leg-M CHUNKS | expect value leg-N SECTOR write N | expect identical
 *     expect failed COUNT | expect state WORD | expect refusal TEXT (of the client) | expect leg leg-N STATE
 *     expect members leg-N MASK | expect in-flight WHO COUNT | expect next-tick within|after MS
 *
 * A leg that loses power loses all that was not flushed. MASK is written with leg 0 on the right. A scenario ends well when all it expects holds and no checker complains.
 *
 * @module
 */

import type { ForceOrder } from "../../lib/core/forced_start.ts";
import { RequestFlag, RequestKind } from "../../lib/frontend/frontend.ts";
import type { ClientProcess } from "../sim/client_process.ts";
import { breakPath, rotIntents } from "../sim/faults.ts";
import { MAX_SECTORS_PER_WRITE, nameValue } from "../sim/oracle.ts";
import { drawPlan, type Plan } from "../sim/plan.ts";
import type { Process } from "../sim/process.ts";
import { obeyStrange, STRANGE_COMMANDS } from "./strange.ts";
import { GARBAGE } from "../sim/sim_disk.ts";
import { Trace } from "../sim/trace.ts";
import { Violation } from "../sim/violation.ts";
import { Lab } from "../sim/lab.ts";
import { World } from "../sim/world.ts";

/** Separates the story from its trace. */
export const TRACE_MARK = "---";
/** Where the text of a trace line begins. */
const TEXT_COLUMN = 21;
/**
 * What would drown the story: every output is seen again as something received or done, and what is forged by the hundred carries the request
 * id of nobody.
 */
const NOISE =
  /^(sends|DISK_|disk:|CONNECT|HASH|METADATA_WRITE)|^receives on \d+: ((PING|PONG|RESYNC_REPORT|HELLO|WELCOME)\b|READ #3758096385)/;
const DEFAULT_LIMIT_MS = 60_000;
const OPS = ["read", "write", "zero", "flush", "metadata"];

const lab = new Lab();

/** Tells the story; returns its trace. Throws when something is not as expected. */
export function playScenario(text: string): string[] {
  const commands = text.split("\n").map((line) => line.trim()).filter((line) => line !== "" && !line.startsWith("#"));
  if (!commands[0]?.startsWith("pool")) throw new Error(`a scenario begins with "pool", not with "${commands[0]}"`);
  const journal = new Trace(Infinity);
  const world = new World(lab, scenarioPlan(commands[0]), journal);
  world.stage = "scenario";
  world.start();
  const lines: string[] = [];
  for (const command of commands.slice(1)) {
    lines.push(`> ${command}`);
    try {
      obey(world, command.split(/\s+/));
    } catch (error) {
      lines.push(...journal.lines.filter(isTelling));
      const reason = error instanceof Violation || error instanceof Error ? error.message : String(error);
      throw new Error(`"${command}": ${reason}\n${lines.join("\n")}`);
    }
    lines.push(...journal.lines.filter(isTelling));
    journal.lines.length = 0;
  }
  return lines;
}

function isTelling(line: string): boolean {
  return !NOISE.test(line.slice(TEXT_COLUMN));
}

/** A plan without chance. */
function scenarioPlan(command: string): Plan {
  const options = new Map(command.split(/\s+/).slice(1).map((word) => word.split("=") as [string, string]));
  const option = (name: string, value: number) => options.has(name) ? Number(options.get(name)) : value;
  const legCount = option("legs", 2);
  // Any seed will do: only the UUIDs are kept.
  const base = drawPlan(1);
  const chunkCount = option("chunks", 64);
  return {
    ...base,
    legCount: legCount + option("spare", 0),
    spareCount: option("spare", 0),
    weakLeg: 0,
    shape: {
      ...base.shape,
      legUuids: Array.from({ length: legCount }, (_, i) => `00000000-0000-4000-8000-00000000000${i}`),
      sizeBytes: chunkCount * 4096,
      chunkBytes: 4096,
      extentBytes: option("extent-chunks", 16) * 4096,
      hotExtentCount: option("hot", 4),
      minInSync: option("min-in-sync", 1),
      ioTimeoutMs: option("io-timeout", 30_000),
    },
    network: {
      baseDelayMs: 0.1,
      meanDelayMs: 0,
      spikeChance: 0,
      spikeMs: 0,
      heldPayloadChance: 0,
      earlyPlacementChance: 0,
      silentBreakChance: 0,
    },
    diskMeanMs: 0.2,
    diskVariance: 0,
    diskSpikeChance: 0,
    diskSpikeMs: 0,
    eioChance: [0, 0, 0, 0, 0],
    faults: [],
    bootsAreKnown: true,
    readerCount: option("readers", 0),
    caretakers: option("caretakers", 0) === 1,
    pathCounts: option("paths", 0) === 0 ? [] : new Array(legCount + option("spare", 0)).fill(option("paths", 0)),
    clientless: false,
    turnMs: 0,
    requestCount: 0,
    queueDepth: option("depth", 16),
    legOptions: {
      ...base.legOptions,
      creditRequests: 32,
      creditBytes: option("credit", base.legOptions.creditBytes),
      pullBytes: 32 * 1024,
      pullsInFlight: 2,
    },
    clientOptions: {
      maxRequests: 32,
      maxWriteBytes: 1 << 20,
      heartbeatLimitMs: option("heartbeat", 3000),
      legTimeoutMs: 20_000,
      flushIntervalMs: 2000,
      connectLimitMs: option("paths", 0) === 0 ? undefined : option("heartbeat", 3000),
    },
  };
}

function obey(world: World, words: readonly string[]): void {
  const { application, client } = world;
  switch (words[0]) {
    case "write":
    case "read":
    case "zero":
    case "discard":
    case "flush": {
      const kinds: Record<string, number> = {
        read: RequestKind.READ,
        write: RequestKind.WRITE,
        zero: RequestKind.WRITE_ZEROES,
        discard: RequestKind.DISCARD,
        flush: RequestKind.FLUSH,
      };
      const [first, count] = words[0] === "flush" ? [0, 0] : words[1].split("+").map(Number);
      const by = [...world.clients, ...world.readers].find(({ name }) => name === words[words.indexOf("by") + 1]) ??
        client;
      if (!by.canSubmit) throw new Error("the client takes no requests now");
      by.submit(application.begin(by, kinds[words[0]], words[2] === "fua" ? RequestFlag.FUA : 0, first, count));
      return;
    }
    case "run":
      world.runUntil(() => false, Number(words[1]));
      return;
    case "until":
      until(world, words);
      return;
    case "kill":
    case "power":
      if (words[1] === "client") client.kill(words[0] === "power");
      else if (words[1] === "operator") world.operator.kill(words[0] === "power");
      else legOf(world, words[1]).kill(words[0] === "power");
      return;
    case "start":
      if (words[1] === "client") client.start(words.includes("takeover"), forceOf(world, words));
      else legOf(world, words[1]).start();
      return;
    case "pause":
      processOf(world, words[1]).pausedUntilMs = world.nowMs + Number(words[2]);
      return;
    case "takeover":
      world.takeOver();
      return;
    case "back":
      world.client = world.clients.find((each) => each !== world.client)!;
      return;
    case "detach":
      client.detach();
      return;
    case "cut":
      world.network.cut(processOf(world, words[1]).id, processOf(world, words[3]).id, world.nowMs + Number(words[4]));
      return;
    case "cut-path": {
      const untilMs = world.nowMs + Number(words[3]);
      for (const towards of [true, false]) {
        world.network.cutPath(legOf(world, words[1]).id, Number(words[2]) - 1, towards, untilMs);
      }
      return;
    }
    case "break-path":
      return breakPath(world, legOf(world, words[1]), Number(words[2]) - 1);
    case "break": {
      const ends = [processOf(world, words[1]), processOf(world, words[2])];
      for (const connection of [...world.network.live]) {
        if (connection.ends.every((end) => ends.includes(end.process))) world.network.break(connection);
      }
      return;
    }
    case "slow":
      legOf(world, words[1]).slowness = Number(words[2]);
      return;
    case "fail":
      legOf(world, words[1]).disk.failNext.push(OPS.indexOf(words[2]));
      return;
    case "delay":
      legOf(world, words[1]).disk.delayNext.set(OPS.indexOf(words[2]), Number(words[3]));
      return;
    case "rot-intents":
      rotIntents(world, legOf(world, words[1]), 0);
      return;
    case "drain":
    case "undrain":
    case "remove":
    case "add":
    case "exchange":
    case "unreadable":
    case "rot":
    case "verify":
    case "stop-verify":
    case "slots":
      return changeLegs(world, words, client);
    case "operator":
      world.operator.order(() => changeLegs(world, words.slice(1), world.operator));
      return;
    case "throttle":
    case "pause-resync":
    case "resume-resync": {
      const leg = legOf(world, words[1]);
      if (words[0] === "throttle") leg.core!.setResync({ rateBytesPerSecond: Number(words[2]) });
      else leg.core!.setResync({ paused: words[0] === "pause-resync" });
      leg.drainNow();
      return;
    }
    case "expect":
      expect(world, words);
      return;
    default:
      if (!STRANGE_COMMANDS.has(words[0])) throw new Error(`no such command`);
      return obeyStrange(world, words, (name) => processOf(world, name));
  }
}

/** "force", "force without N". */
function forceOf(world: World, words: readonly string[]): ForceOrder | undefined {
  if (!words.includes("force")) return undefined;
  const at = words.indexOf("without");
  return { historyId: world.newUuid(), withoutMask: at < 0 ? 0 : 1 << Number(words[at + 1]) };
}

function until(world: World, words: readonly string[]): void {
  const { application, client } = world;
  const unit = words.at(-1) === "s" ? 1000 : words.at(-1) === "ms" ? 1 : 0;
  const limitMs = unit === 0 ? DEFAULT_LIMIT_MS : Number(words.at(-2)) * unit;
  const conditions: Record<string, () => boolean> = {
    "idle": () => application.inFlight.size === 0 && world.readers.every(({ inFlight }) => inFlight.size === 0),
    "changed": () => [...client.changes.values()].every((problem) => problem !== null),
    "ordered": () => !world.operator.alive,
    "verified": () => client.core?.snapshot().verify.state !== "running",
    "ready": () => client.core?.state === "ready",
    "refused": () => client.core?.state === "refused",
    "detached": () => !client.alive,
    "in-sync": () => client.core?.state === "ready" && client.core.snapshot().inSyncMask === parseInt(words[2], 2),
    "resyncing": () => legState(world, words[2]) === "resyncing",
  };
  const holds = conditions[words[1]];
  if (holds === undefined) throw new Error(`no such condition`);
  if (world.runUntil(holds, limitMs)) return;
  const core = client.core;
  const state = core === null
    ? "down"
    : `${core.state}, in-sync ${core.snapshot().inSyncMask.toString(2)}, ${core.refusal}`;
  throw new Error(`did not come true in ${limitMs} ms; the client is ${state}`);
}

/** What an operator does to legs, and what happens to their disks. */
function changeLegs(world: World, words: readonly string[], server: ClientProcess): void {
  const { table } = world;
  if (words[0] === "slots") {
    server.hasSlots = words[1] === "some";
    return;
  }
  if (words[0] === "stop-verify") return server.stopVerify();
  if (words[0] === "verify") {
    const problem = server.verify(words[1] === "repair", 0);
    const refusal = words.indexOf("refused");
    if (refusal < 0) return equal(problem, "");
    return equal(String(problem.includes(words.slice(refusal + 1).join(" "))), "true");
  }
  const leg = legOf(world, words[1]);
  if (words[0] === "exchange") return words[2] === "alone" ? table.replaceAlone(leg) : table.replaceCold(leg);
  if (words[0] === "drain" || words[0] === "undrain") return table.drain(leg.legIndex, words[0] === "drain");
  if (words[0] === "remove") return table.remove(leg.legIndex);
  if (words[0] === "add") return table.add(leg, words[2] === "replacing" ? legOf(world, words[3]).legIndex : -1);
  const [first, count] = words[2].split("+").map(Number);
  for (let sector = first; sector < first + count; sector++) {
    if (words[0] === "unreadable") leg.disk.badSectors.add(sector);
    else leg.disk.current[sector] = leg.disk.stable[sector] = GARBAGE;
  }
}

function expect(world: World, words: readonly string[]): void {
  const { client } = world;
  const core = world.client.core;
  switch (words[1]) {
    case "in-sync":
      return equal(core!.snapshot().inSyncMask.toString(2).padStart(words[2].length, "0"), words[2]);
    case "refusal":
      return equal(String(core?.refusal.includes(words.slice(2).join(" "))), "true");
    case "leg": {
      const found = legState(world, words[2]) ?? "in no table";
      return equal(found, words[3]);
    }
    case "state":
      return equal(core?.state ?? "down", words[2]);
    case "next-tick":
      return equal(
        String(core!.nextDeadlineMs - client.clockMs <= Number(words[3])),
        words[2] === "within" ? "true" : "false",
      );
    case "in-flight":
      return equal(String((processOf(world, words[2]) as ClientProcess).inFlight.size), words[3]);
    case "failed":
      return equal(String(world.application.failed), words[2]);
    case "dirty": {
      const target = legOf(world, words[3]).legIndex;
      const dirty = legOf(world, words[2]).core!.snapshot().dirty.find((each) => each.legIndex === target);
      return equal(String(dirty?.dirtyChunks ?? 0), words[4]);
    }
    case "value": {
      const sector = Number(words[3]);
      const value = legOf(world, words[2]).disk.current[sector];
      const found = value > 0 ? `write ${Math.floor(value / MAX_SECTORS_PER_WRITE)}` : nameValue(value);
      return equal(found, words.slice(4).join(" "));
    }
    case "changed":
      return equal([...client.changes.values()].at(-1) ?? "not yet", "");
    case "refused": {
      const problem = [...client.changes.values()].at(-1) ?? "";
      return equal(String(problem.includes(words.slice(2).join(" "))), "true");
    }
    case "ordered":
      return equal(world.operator.refusal || ([...world.operator.changes.values()].at(-1) ?? "not yet"), "");
    case "order-refused": {
      const problem = world.operator.refusal || ([...world.operator.changes.values()].at(-1) ?? "");
      return equal(String(problem.includes(words.slice(2).join(" "))), "true");
    }
    case "members": {
      const { inSyncMask } = legOf(world, words[2]).core!.snapshot().record.shared;
      return equal(inSyncMask.toString(2).padStart(words[3].length, "0"), words[3]);
    }
    case "verified": {
      const { state, differences, repairedBytes } = core!.snapshot().verify;
      return equal(`${state} ${differences} ${repairedBytes}`, words.slice(2).join(" "));
    }
    case "identical":
      return world.compareDisks();
    default:
      throw new Error(`no such expectation`);
  }
}

function equal(found: string, expected: string): void {
  if (found !== expected) throw new Error(`expected ${expected}, found ${found}`);
}

/** What the client holds a leg to be; undefined while it is in no table. */
function legState(world: World, name: string): string | undefined {
  const { legIndex } = legOf(world, name);
  return world.client.core?.snapshot().legs.find((leg) => leg.legIndex === legIndex)?.state;
}

function legOf(world: World, name: string) {
  const leg = world.legs.find((each) => each.name === name);
  if (leg === undefined) throw new Error(`there is no ${name}`);
  return leg;
}

function processOf(world: World, name: string): Process {
  return [...world.clients, ...world.readers].find((each) => each.name === name) ?? legOf(world, name);
}
