/**
 * Faults that come from outside of the protocol: programs that have no business with the pool, frames that nobody waits for, disks without
 * space, clocks that jump or stand still, and programs of another version.
 *
 * @module
 */

import { Message, MessageType } from "../../lib/wire/message.ts";
import { type Dialect, OUR_DIALECT } from "../../lib/wire/negotiate.ts";
import { exponential, happens, part, under } from "./chance.ts";
import { ClientProcess } from "./client_process.ts";
import type { Connection } from "./network.ts";
import { Fault } from "./plan.ts";
import type { Process } from "./process.ts";
import { Stranger } from "./stranger.ts";
import type { World } from "./world.ts";

/** Programs of other versions. Those that cannot speak with each other must leave each other alone. */
export const DIALECTS: Record<string, Dialect> = {
  ours: OUR_DIALECT,
  /** Speaks what we speak, and more. */
  newer: { ...OUR_DIALECT, newestProtocol: OUR_DIALECT.newestProtocol + 1, features: 0b101 },
  /** Does not know that a client may come back by another path. */
  older: { ...OUR_DIALECT, features: 0 },
  /** Has forgotten what we speak. */
  "much-newer": {
    oldestProtocol: OUR_DIALECT.newestProtocol + 1,
    newestProtocol: OUR_DIALECT.newestProtocol + 2,
    features: 0b111,
    requiredFeatures: 0,
  },
  /** Needs a feature that we do not have. */
  demanding: { ...OUR_DIALECT, newestProtocol: OUR_DIALECT.newestProtocol + 1, features: 0b11, requiredFeatures: 0b10 },
};

/** More than any request id in use, and fewer than those of control frames. */
const NOBODYS_REQUEST = 0xe0000000;

/** Longer than a leg may keep a request, and not so long that the pool could not become whole in time. */
const MOST_HANG_MS = 70_000;

const strangers = new WeakMap<World, Stranger>();

/** One of them strikes. */
export function strikeStrangely(world: World, fault: number): void {
  const { prng, legs } = world;
  const process = world.processes[under(prng, world.processes.length)];
  switch (fault) {
    case Fault.STRANGER:
      return visit(world, legs[under(prng, legs.length)].name, ["client", "peer", "control"][under(prng, 3)]);
    case Fault.STRAY:
      return stray(world);
    case Fault.FULL_DISK: {
      // Always the same: where all disks are full, nothing can be promised but that nothing is lost.
      const { disk } = legs[world.plan.weakLeg];
      disk.isFull = !disk.isFull;
      return;
    }
    case Fault.HANG_DISK: {
      const { disk } = legs[under(prng, legs.length)];
      const forMs = Math.min(MOST_HANG_MS, exponential(prng, happens(prng, 0.5) ? 5000 : 40_000));
      disk.hungUntilMs = Math.max(disk.hungUntilMs, world.nowMs + forMs);
      return;
    }
    case Fault.CLOCK:
      process.wallErrorMs = (part(prng) - 0.5) * 2e9;
      return;
    case Fault.SUSPEND:
      return suspend(world, process, exponential(prng, happens(prng, 0.5) ? 1500 : 15_000));
    case Fault.VERSION: {
      const names = Object.keys(DIALECTS);
      return install(world, process, names[under(prng, names.length)]);
    }
  }
}

/** Faults end: there is space again, and all have the same program. Those that ran another are dead afterwards. */
export function endStrangeFaults(world: World): void {
  for (const leg of world.legs) leg.disk.isFull = false;
  for (const process of world.processes) {
    if (process.installed === OUR_DIALECT) continue;
    process.installed = OUR_DIALECT;
    process.kill(false);
  }
}

/** Somebody who has no business with it comes to a leg. */
export function visit(world: World, legName: string, role: string): void {
  let stranger = strangers.get(world);
  if (stranger === undefined) strangers.set(world, stranger = new Stranger(world));
  stranger.visit(world.legs.find((leg) => leg.name === legName)!, role as "client" | "peer" | "control");
}

/** A machine sleeps: nothing of it moves, its clock neither. */
export function suspend(world: World, process: Process, forMs: number): void {
  // No clock shows less than nothing.
  if (!process.alive || process.pausedUntilMs > world.nowMs || forMs > process.clockMs) return;
  process.pausedUntilMs = world.nowMs + forMs;
  process.lagMs += forMs;
}

/** The program of a node is exchanged for one of another version. */
export function install(world: World, process: Process, dialect: string): void {
  process.installed = DIALECTS[dialect];
  if (world.tracing) world.note(`${process.name} is installed anew: ${dialect}`);
  if (!process.alive) return;
  process.kill(false);
  if (!(process instanceof ClientProcess) || process === world.client) {
    world.scheduleStart(process, exponential(world.prng, 300), happens(world.prng, 0.5));
  }
}

/** A frame comes on a connection in use that nobody waits for, or that cannot be carried out. */
function stray(world: World): void {
  const { prng } = world;
  // What a stranger is told must have been said by the leg itself.
  const live = [...world.network.live].filter(({ ends }) =>
    ends.every((end) => end.open && end.process.alive && !(end.process instanceof Stranger))
  );
  if (live.length === 0) return;
  const connection = live[under(prng, live.length)];
  const fromClient = connection.ends[0].process instanceof ClientProcess;
  const side = under(prng, 2);
  if (side === 1) answerNobody(world, connection, fromClient);
  else if (fromClient) askInVain(world, connection);
}

function answerNobody(world: World, connection: Connection, toClient: boolean): void {
  const { prng } = world;
  const forClients = [
    ...[MessageType.ACK, MessageType.DATA, MessageType.HASH_DATA, MessageType.EPOCH_DONE, MessageType.GRANT],
    ...[MessageType.WELCOME, MessageType.PONG, MessageType.WANT_FLUSH, MessageType.RESYNC_REPORT, MessageType.PULL],
  ];
  const forPeers = [MessageType.PULL_DATA, MessageType.MAP_PART, MessageType.HASH_DATA, MessageType.PONG];
  const types = toClient ? forClients : forPeers;
  const message = new Message();
  message.type = types[under(prng, types.length)];
  message.requestId = NOBODYS_REQUEST + under(prng, 1000);
  message.status = happens(prng, 0.5) ? 0 : -5;
  const record = {
    shared: world.table.newest(false)!,
    promisedGeneration: 0,
    promisedTo: "",
  };
  const bodies = new Map<number, unknown>([
    [MessageType.GRANT, { generation: 0, record, intents: [], intentsLost: false, unbroken: true }],
    // Of a protocol that nobody speaks.
    [MessageType.WELCOME, {
      protocol: 99,
      features: 0,
      instance: world.newUuid(),
      creditRequests: 1,
      creditBytes: 4096,
    }],
    [MessageType.RESYNC_REPORT, {
      resyncSession: 1,
      epoch: 0,
      state: "done",
      missingBytes: 0,
      copiedBytes: 0,
      rateBytesPerSecond: 0,
    }],
    [MessageType.HASH_DATA, Uint32Array.of(1, 2)],
    [MessageType.MAP_PART, Uint32Array.of(0, 1)],
  ]);
  world.network.send(connection.id * 2 + 1, message, null, bodies.get(message.type) ?? null, false);
}

/** From a client: what is out of range, or comes out of its order. */
function askInVain(world: World, connection: Connection): void {
  const { prng, plan } = world;
  const types = [
    ...[MessageType.WRITE_ZEROES, MessageType.DISCARD, MessageType.READ, MessageType.HASH, MessageType.PONG],
    ...[MessageType.READ, MessageType.DATA],
  ];
  const message = new Message();
  message.type = types[under(prng, types.length)];
  const isFlood = message.type === MessageType.READ && happens(prng, 0.2);
  // More than it was granted: the leg closes the connection.
  for (let i = isFlood ? 2 * plan.legOptions.creditRequests + 300 : 1; i > 0; i--) {
    message.requestId = NOBODYS_REQUEST + under(prng, 1000);
    message.offset = isFlood ? 0 : happens(prng, 0.5) ? plan.shape.sizeBytes : 100;
    message.length = isFlood ? 4096 : happens(prng, 0.5) ? 4096 : 0;
    // Numbers of writes only rise.
    message.sequence = 0;
    world.network.send(connection.id * 2, message, null, null, false);
  }
}
