/**
 * What can go wrong at a random moment.
 *
 * @module
 */

import { intentBlockOffset } from "../../lib/disk_format/layout.ts";
import { BLOCK_BYTES } from "../../lib/disk_format/records.ts";
import { exponential, happens, part, under } from "./chance.ts";
import { rotCopy } from "./disk_image.ts";
import type { LegProcess } from "./leg_process.ts";
import { Fault, FAULT_NAMES } from "./plan.ts";
import { strikeStrangely } from "./strange_faults.ts";
import type { World } from "./world.ts";

/** A fault strikes. */
export function strike(world: World, fault: number): void {
  const { prng, client, legs } = world;
  const leg = legs[under(prng, legs.length)];
  world.counts.faults++;
  if (world.tracing) world.note(`fault ${FAULT_NAMES[fault]}`);
  switch (fault) {
    case Fault.KILL_LEG:
      return killLeg(world, leg, false);
    case Fault.POWER_LEG:
      return killLeg(world, leg, true);
    case Fault.KILL_CLIENT:
      return killClient(world, false);
    case Fault.KILL_CLIENT_AND_LEG:
      killClient(world, false);
      return killLeg(world, leg, false);
    case Fault.POWER_CLIENT_AND_LEG:
      killClient(world, true);
      return killLeg(world, leg, true);
    case Fault.POWER_ALL:
      killClient(world, true);
      for (const each of legs) killLeg(world, each, true);
      return;
    case Fault.KILL_ALL:
      killClient(world, false);
      for (const each of legs) killLeg(world, each, false);
      return;
    case Fault.BREAK_CONNECTION: {
      const live = [...world.network.live];
      if (live.length > 0) world.network.break(live[under(prng, live.length)]);
      return;
    }
    case Fault.CUT_ONE_WAY:
    case Fault.CUT_BOTH_WAYS: {
      const from = under(prng, world.processes.length);
      const to = (from + 1 + under(prng, world.processes.length - 1)) % world.processes.length;
      const untilMs = world.nowMs + exponential(prng, 3000);
      world.network.cut(from, to, untilMs);
      if (fault === Fault.CUT_BOTH_WAYS) world.network.cut(to, from, untilMs);
      if (world.tracing) world.note(`${world.processes[from].name} to ${world.processes[to].name} until ${untilMs}`);
      return;
    }
    case Fault.CUT_PATH: {
      const path = under(prng, world.plan.pathCounts[leg.legIndex] ?? 1);
      const untilMs = world.nowMs + exponential(prng, 4000);
      const direction = under(prng, 3); // to it, from it, both
      if (direction !== 1) world.network.cutPath(leg.id, path, true, untilMs);
      if (direction !== 0) world.network.cutPath(leg.id, path, false, untilMs);
      if (world.tracing) world.note(`path ${path} of ${leg.name}, direction ${direction}, until ${untilMs}`);
      // Half of the cuts are noticed.
      if (happens(prng, 0.5)) breakPath(world, leg, path);
      return;
    }
    case Fault.PAUSE_LEG:
      leg.pausedUntilMs = Math.max(leg.pausedUntilMs, world.nowMs + exponential(prng, 2000));
      return;
    case Fault.PAUSE_CLIENT:
      client.pausedUntilMs = Math.max(client.pausedUntilMs, world.nowMs + exponential(prng, 2000));
      return;
    case Fault.SLOW_LEG:
      leg.slowness = leg.slowness > 1 ? 1 : 2 + part(prng) * 50;
      return;
    case Fault.DETACH:
      if (client.canSubmit) client.detach();
      return;
    case Fault.TAKE_OVER:
      if (client.alive && happens(prng, 0.5)) {
        client.pausedUntilMs = Math.max(client.pausedUntilMs, world.nowMs + exponential(prng, 1000));
      }
      return world.takeOver();
    case Fault.TAKE_OVER_APART: {
      // Each client reaches what the other does not. The former one has nothing to do until the other has written something.
      if (!client.alive) return;
      client.isResting = true;
      world.takeOver();
      world.client.wakes = client;
      const untilMs = world.nowMs + 8000 + exponential(prng, 4000);
      for (const each of legs) {
        const cutOff = each === leg ? world.client : client;
        world.network.cut(cutOff.id, each.id, untilMs);
        world.network.cut(each.id, cutOff.id, untilMs);
      }
      return;
    }
    case Fault.ISOLATE_CLIENT: {
      // Long enough for the legs to give its session up.
      const untilMs = world.nowMs + exponential(prng, 15_000);
      for (const each of legs) {
        world.network.cut(client.id, each.id, untilMs);
        world.network.cut(each.id, client.id, untilMs);
      }
      return;
    }
    case Fault.FORCE_START:
      return world.forced.strike();
    case Fault.ROT: {
      const dead = legs.filter((each) => !each.alive);
      if (dead.length > 0) rot(world, dead[under(prng, dead.length)]);
      return;
    }
    case Fault.ROT_INTENTS: {
      const dead = legs.filter((each) => !each.alive);
      if (dead.length > 0) {
        rotIntents(world, dead[under(prng, dead.length)], under(prng, world.layout.intentBlockCount));
      }
      return;
    }
    case Fault.ROT_MAPS: {
      const dead = legs.filter((each) => !each.alive && each.hasLeg);
      if (dead.length > 0) rotMaps(world, dead[under(prng, dead.length)]);
      return;
    }
    case Fault.DRAIN:
    case Fault.UNDRAIN:
      return world.table.drain(leg.legIndex, fault === Fault.DRAIN);
    case Fault.ADD_LEG:
      return world.table.add(leg, -1);
    case Fault.REMOVE_LEG:
      if (happens(prng, 0.3)) world.table.forget(leg);
      return world.table.remove(leg.legIndex);
    case Fault.REPLACE_HOT: {
      const old = legs[under(prng, legs.length)];
      return world.table.add(leg, old === leg ? -1 : old.legIndex);
    }
    case Fault.REPLACE_COLD:
      return world.table.replaceCold(leg);
    case Fault.VERIFY:
      return world.table.verify(happens(prng, 0.7), happens(prng, 0.5) ? 0 : 1024 * 1024);
    case Fault.LATENT: {
      const first = under(prng, world.plan.spanSectors);
      const { disk } = legs[world.plan.weakLeg];
      for (let i = first; i < Math.min(first + 1 + under(prng, 16), disk.sectorCount); i++) disk.badSectors.add(i);
      return;
    }
    case Fault.POWER_AFTER_DROP: {
      // The client gives one leg up; as soon as another has noted it, that one's machine goes down, and the client with it.
      const other = legs[(leg.legIndex + 1 + under(prng, legs.length - 1)) % legs.length];
      if (!client.alive || !other.alive) return;
      for (const connection of [...world.network.live]) {
        const ends = connection.ends.map(({ process }) => process);
        if (ends.includes(client) && ends.includes(leg)) world.network.break(connection);
      }
      other.onNextRecord = () => {
        if (!world.faulty) return;
        killClient(world, false);
        killLeg(world, other, true);
      };
      return;
    }
    case Fault.CHANGE_ALONE: {
      // The leg table changes, for one leg only: then everybody dies, and that leg is away for longer than the others.
      const other = legs[(leg.legIndex + 1 + under(prng, legs.length - 1)) % legs.length];
      if (!client.alive || !other.alive) return;
      for (const each of legs) {
        if (each !== other) world.network.cut(client.id, each.id, world.nowMs + 20 + exponential(prng, 50));
      }
      other.onNextRecord = () => {
        if (!world.faulty) return;
        killClient(world, false);
        for (const each of legs) {
          if (each !== other && happens(prng, 0.8)) killLeg(world, each, false);
        }
        other.kill(false);
        world.scheduleStart(other, exponential(prng, 5 * world.plan.downMeanMs));
      };
      const dead = legs.filter((each) => !each.alive);
      const gone = dead.length > 0 ? dead[under(prng, dead.length)] : leg;
      return happens(prng, 0.3) ? world.table.replaceCold(gone) : world.table.remove(gone.legIndex);
    }
    case Fault.THROTTLE: {
      if (!leg.alive) return;
      const rateBytesPerSecond = happens(prng, 0.5) ? 0 : 64 * 1024 * (1 + under(prng, 64));
      leg.core!.setResync({ paused: happens(prng, 0.3), rateBytesPerSecond });
      leg.drainNow();
      return;
    }
    default:
      return strikeStrangely(world, fault);
  }
}

/** Every connection to a leg by one of its paths breaks. */
export function breakPath(world: World, leg: LegProcess, path: number): void {
  for (const connection of [...world.network.live]) {
    if (connection.path === path && connection.ends[1].process === leg) world.network.break(connection);
  }
}

function killLeg(world: World, leg: LegProcess, power: boolean): void {
  const wasAlive = leg.alive;
  leg.kill(power);
  // An operator's session ends with the node that it was begun at.
  const { operator } = world;
  if (operator.alive && happens(world.prng, 0.5)) operator.kill(power);
  if (wasAlive) world.scheduleStart(leg, exponential(world.prng, world.plan.downMeanMs));
}

function killClient(world: World, power: boolean): void {
  if (!world.client.alive) return;
  world.client.kill(power);
  world.scheduleStart(world.client, exponential(world.prng, world.plan.downMeanMs), happens(world.prng, 0.5));
}

/** Both copies of an intent block rot while the node is down: nobody knows any more what it was writing. */
export function rotIntents(world: World, leg: LegProcess, block: number): void {
  const offset = intentBlockOffset(world.layout, block);
  if (world.tracing) world.note(`intent block ${block} of ${leg.name} rots`);
  for (const copy of [0, 1]) rotCopy(leg.disk, offset, copy, 100);
  world.checks.intentsRotted(leg);
  world.losses.evidenceLost(leg.legIndex);
}

/** Both copies of every page of its dirty maps rot while the node is down: all that they spoke of counts as dirty. */
export function rotMaps(world: World, leg: LegProcess): void {
  const { mapOffset, dataOffset } = world.layout;
  for (const offset of [...leg.disk.blocks.keys()]) {
    if (offset < mapOffset || offset >= dataOffset || offset % (2 * BLOCK_BYTES) !== 0) continue;
    if (world.tracing) world.note(`a page of the dirty maps of ${leg.name} rots`);
    for (const copy of [0, 1]) rotCopy(leg.disk, offset, copy, 100 + under(world.prng, 3000));
  }
}

/** One copy of a record rots while its node is down; never the only good one. */
function rot(world: World, leg: LegProcess): void {
  const offsets = [...leg.disk.blocks.keys()].filter((offset) => offset % (2 * BLOCK_BYTES) === 0);
  const offset = offsets[under(world.prng, offsets.length)];
  const first = leg.disk.block(offset);
  const second = leg.disk.block(offset + BLOCK_BYTES);
  for (let i = 0; i < BLOCK_BYTES; i++) if (first[i] !== second[i]) return;
  if (world.tracing) world.note(`a copy at ${offset} of ${leg.name} rots`);
  rotCopy(leg.disk, offset, under(world.prng, 2), under(world.prng, BLOCK_BYTES));
}
