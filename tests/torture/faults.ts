/**
 * What strikes a torture world, and how each fault ends.
 *
 * @module
 */

import type { Prng } from "../../lib/base/prng.ts";
import { NO_TROUBLE } from "./fault_disk.ts";
import type { FaultName } from "./plan.ts";
import type { TortureWorld } from "./world.ts";

const NBD_EIO = 5;
const NBD_ENOSPC = 28;

/** A fault strikes; resolves when it is over, unless calm comes first and ends all of them. */
export async function strike(world: TortureWorld, fault: FaultName): Promise<void> {
  const { prng, pool } = world;
  const node = prng.below(pool.legCount);
  const machineCount = pool.bed.machines.length;
  const from = prng.below(machineCount);
  const to = (from + 1 + prng.below(machineCount - 1)) % machineCount;
  const durationMs = lasting(prng);
  switch (fault) {
    case "kill node":
      return await downAndUp(world, [node], durationMs, false);
    case "restart node":
      await pool.stopNode(node, "SIGTERM");
      return await downAndUp(world, [node], durationMs, false);
    case "kill client":
      return await world.killClient();
    case "kill client and node":
      await Promise.all([world.killClient(), downAndUp(world, [node], durationMs, false)]);
      return;
    case "kill everything":
      await Promise.all([world.killClient(), downAndUp(world, all(world), durationMs, false)]);
      return;
    case "power of a node":
      return await downAndUp(world, [node], durationMs, true);
    case "power of everything":
      await Promise.all([world.killClient(), downAndUp(world, all(world), durationMs, true)]);
      return;
    case "stop node":
      pool.nodes[node]?.signal("SIGSTOP");
      await world.rest(durationMs);
      pool.nodes[node]?.signal("SIGCONT");
      return;
    case "stop client": {
      const client = pool.client;
      client?.server.signal("SIGSTOP");
      await world.rest(durationMs);
      client?.server.signal("SIGCONT");
      return;
    }
    case "cut one way":
    case "cut both ways":
      await pool.bed.cut(from, to);
      if (fault === "cut both ways") await pool.bed.cut(to, from);
      await world.rest(durationMs);
      await pool.bed.mend(from, to);
      return await pool.bed.mend(to, from);
    case "pull cable":
      await pool.bed.plug(from, false);
      await world.rest(durationMs);
      return await pool.bed.plug(from, true);
    case "disk hangs":
      await pool.disks[node].trouble({ ...NO_TROUBLE, isHanging: true });
      await world.rest(durationMs);
      return await pool.disks[node].heal();
    case "disk is slow":
      await pool.disks[node].trouble({ ...NO_TROUBLE, delayMs: 5 + prng.below(200) });
      await world.rest(durationMs);
      return await pool.disks[node].heal();
    case "disk fails":
    case "disk is full": {
      const isFull = fault === "disk is full";
      const chance = () => (prng.chance(0.5) ? prng.fraction() * prng.fraction() : 0);
      await pool.disks[node].trouble({
        ...NO_TROUBLE,
        readFailure: isFull ? 0 : chance(),
        writeFailure: isFull ? 1 : chance(),
        flushFailure: isFull ? 0 : chance(),
        errorNumber: isFull ? NBD_ENOSPC : NBD_EIO,
      });
      await world.rest(durationMs);
      return await pool.disks[node].heal();
    }
    case "sectors rot":
      for (let i = 0; i < 8; i++) {
        // Beyond the metadata: that both copies of a record can be read is nobody's promise.
        const first = world.dataSector + prng.below(pool.plan.spanSectors);
        await pool.disks[node].spoil(first, 1 + prng.below(16));
      }
      await world.rest(durationMs);
      return await pool.disks[node].heal();
    case "takeover":
      return await world.takeOver(prng.chance(0.5));
    case "clean detach":
      return await world.detach();
    case "pause resync":
      await pool.setResync(node, prng.chance(0.5), prng.chance(0.5) ? 0 : 65536 * (1 + prng.below(64)));
      await world.rest(durationMs);
      return await pool.setResync(node, false, 0);
  }
}

function all(world: TortureWorld): number[] {
  return world.pool.disks.map((_, index) => index);
}

/** Mostly short, sometimes longer than every limit that a node or client has. */
function lasting(prng: Prng): number {
  return prng.chance(0.7) ? 50 + prng.below(1000) : 1000 + prng.below(5000);
}

/** Nodes are killed, at once; with `power` their machines too. After a while they start again. */
async function downAndUp(world: TortureWorld, nodes: readonly number[], durationMs: number, power: boolean) {
  const { pool } = world;
  if (power) await world.losePower(nodes);
  else await Promise.all(nodes.map((node) => pool.stopNode(node)));
  await world.rest(durationMs);
  for (const node of nodes) await world.startNode(node);
}
