/**
 * The worker in which the disks of a torture world live, so that they do not wait for its load.
 *
 * @module
 */

/// <reference lib="deno.worker" />

import { Prng } from "../../lib/base/prng.ts";
import { type DiskTrouble, FaultDisk } from "./fault_disk.ts";
import { FaultDiskServer } from "./fault_disk_server.ts";

/** What the main isolate may ask of disk `disk`. */
export type DiskOrder =
  | { readonly op: "create"; readonly sizeBytes: number; readonly seed: number; readonly socketPath: string }
  | { readonly op: "trouble"; readonly trouble: DiskTrouble }
  | { readonly op: "spoil"; readonly firstSector: number; readonly sectorCount: number }
  | { readonly op: "heal" }
  | { readonly op: "power" }
  | { readonly op: "copy"; readonly offset: number; readonly lengthBytes: number }
  | { readonly op: "close" };

const servers = new Map<number, FaultDiskServer>();

function carryOut(disk: number, order: DiskOrder): Uint8Array | null {
  if (order.op === "create") {
    servers.set(disk, new FaultDiskServer(new FaultDisk(order.sizeBytes, new Prng(order.seed)), order.socketPath));
    return null;
  }
  const server = servers.get(disk);
  if (server === undefined) throw new Error(`There is no disk ${disk}`);
  switch (order.op) {
    case "trouble":
      server.disk.trouble = order.trouble;
      server.troubleChanged();
      return null;
    case "spoil":
      server.disk.spoil(order.firstSector, order.sectorCount);
      return null;
    case "heal":
      server.disk.heal();
      server.troubleChanged();
      return null;
    case "power":
      server.closeConnections();
      server.disk.losePower();
      return null;
    case "copy":
      return server.disk.copy(order.offset, order.lengthBytes);
    case "close":
      server.close();
      servers.delete(disk);
      return null;
  }
}

self.onmessage = ({ data }: MessageEvent<{ id: number; disk: number; order: DiskOrder }>) => {
  const result = carryOut(data.disk, data.order);
  self.postMessage({ id: data.id, result }, result === null ? [] : [result.buffer as ArrayBuffer]);
};
