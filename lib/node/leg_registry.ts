/**
 * Which legs a storage node has: keeps the state directory and the data plane in step, and does what operators ask of legs.
 *
 * A leg is entered in the state directory before it is served and forgotten before it is wiped, so a crash in between leaves
 * at worst a leg that is reported as broken, never one that is served unknown to the directory.
 *
 * @module
 */

import {
  type BrokenLeg,
  ControlError,
  type LegCreate,
  type LegProbe,
  type LegStatus,
  type NodeOperations,
} from "../control/control_api.ts";
import { formatLeg, probeDevice, StoreError, wipeLeg } from "../store/leg_device.ts";
import { errnoName } from "../../ffi/libc/errno.ts";
import { unlinkPath } from "../../ffi/libc/file.ts";
import type { NodeState } from "./node_state.ts";
import type { WorkerPort } from "./worker_port.ts";

/** The legs of one storage node. */
export class LegRegistry {
  readonly #state: NodeState;
  readonly #port: WorkerPort;
  readonly #broken = new Map<string, string>();
  /** Changes are made one after the other. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(state: NodeState, port: WorkerPort) {
    this.#state = state;
    this.#port = port;
  }

  /** Legs that are known and cannot be served. */
  get broken(): readonly BrokenLeg[] {
    return [...this.#broken].map(([path, message]) => ({ path, message }));
  }

  /** Opens every known leg; returns how many are served. */
  async openAll(): Promise<number> {
    let count = 0;
    for (const leg of this.#state.legs) {
      try {
        await this.#port.request("leg.open", { path: leg.path, poolUuid: leg.poolUuid, legUuid: leg.legUuid });
        count++;
      } catch (error) {
        this.#broken.set(leg.path, (error as Error).message);
      }
    }
    return count;
  }

  /** `operated`: pools of which an operator's session runs here, by UUID. */
  status(): Promise<{ legs: LegStatus[]; bufferBytes: number; operated: string[] }> {
    return this.#port.request("status");
  }

  beginOperator(pool: string): Promise<{ holder: number }> {
    return this.#port.request("operator.begin", { pool });
  }

  askOperator(request: NodeOperations["operator.ask"]["request"]): Promise<unknown> {
    return this.#port.request("operator.ask", request);
  }

  /** What is at `path`. */
  probe(path: string): Promise<LegProbe> {
    return this.#inTurn(() => Promise.resolve(probeDevice(path)));
  }

  /** Makes the device at `request.path` a leg and serves it. */
  create(request: LegCreate): Promise<{ legUuid: string }> {
    return this.#inTurn(async () => {
      if (this.#state.legs.some((leg) => leg.path === request.path)) {
        throw new ControlError(
          "in-use",
          `"${request.path}" is a leg of this node already. Delete that pool first, or choose another path`,
        );
      }
      const createdFile = probeDevice(request.path).kind === "absent";
      // Legs that start in sync together must be equal, and only zeroes are. The first of several legs keeps its content.
      const isAlone = request.shared.inSyncMask === 1 << request.legIndex;
      const isInSync = (request.shared.inSyncMask & 1 << request.legIndex) !== 0;
      formatLeg({ ...request, zeroData: isInSync && !isAlone, createdMs: Date.now() });
      await this.#state.addLeg({
        path: request.path,
        poolUuid: request.poolUuid,
        legUuid: request.legUuid,
        createdFile,
      });
      try {
        await this.#port.request("leg.open", request);
      } catch (error) {
        this.#broken.set(request.path, (error as Error).message);
        throw error;
      }
      return { legUuid: request.legUuid };
    });
  }

  /**
   * Makes the device at `request.path` a leg in place of `request.replacesUuid`, whose disk is gone or no longer wanted. Until the new leg
   * is formatted nothing has changed; the directory then knows one or the other.
   */
  replace(request: LegCreate & { readonly replacesUuid: string }): Promise<{ legUuid: string }> {
    return this.#inTurn(async () => {
      const { path, poolUuid, legUuid, replacesUuid } = request;
      const old = this.#state.legs.find((leg) => leg.poolUuid === poolUuid && leg.legUuid === replacesUuid);
      if (this.#state.legs.some((leg) => leg.path === path)) {
        throw new ControlError("in-use", `"${path}" is a leg of this node already. Choose another device`);
      }
      const createdFile = probeDevice(path).kind === "absent";
      formatLeg({ ...request, zeroData: false, createdMs: Date.now() });
      await this.#state.replaceLeg(replacesUuid, { path, poolUuid, legUuid, createdFile });
      if (old !== undefined && !this.#broken.delete(old.path)) {
        await this.#port.request("leg.close", { legUuid: replacesUuid, force: true });
      }
      try {
        await this.#port.request("leg.open", request);
      } catch (error) {
        this.#broken.set(path, (error as Error).message);
        throw error;
      }
      return { legUuid };
    });
  }

  /** Takes a leg out of service, wipes its metadata, forgets it, and removes the file if the node made it. */
  delete(request: NodeOperations["leg.delete"]["request"]): Promise<Record<string, never>> {
    return this.#inTurn(async () => {
      const leg = this.#state.legs.find((each) =>
        each.poolUuid === request.poolUuid && each.legUuid === request.legUuid
      );
      if (leg === undefined) {
        throw new ControlError("not-found", `This node has no leg ${request.legUuid} of pool ${request.poolUuid}`);
      }
      if (!this.#broken.has(leg.path)) {
        await this.#port.request("leg.close", { legUuid: leg.legUuid, force: request.force });
      } else if (!request.force) {
        throw new ControlError(
          "refused",
          `Leg "${leg.path}" is broken (${this.#broken.get(leg.path)}). Repair it, or delete it with --force`,
        );
      }
      await this.#state.removeLeg(leg.path);
      const wasBroken = this.#broken.delete(leg.path);
      // A broken leg may be gone, or be someone else's disk by now: it is forgotten, and left as it is.
      if (wasBroken) return {};
      wipeLeg(leg.path, leg.poolUuid);
      if (leg.createdFile) removeFile(leg.path);
      return {};
    });
  }

  dirtyMap(request: NodeOperations["pool.dirtyMap"]["request"]): Promise<NodeOperations["pool.dirtyMap"]["result"]> {
    return this.#port.request("pool.dirtyMap", request);
  }

  setResync(request: NodeOperations["resync.set"]["request"]): Promise<{ legs: number }> {
    return this.#port.request("resync.set", request);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work).catch((error) => {
      throw error instanceof StoreError ? new ControlError(error.code, error.message) : error;
    });
    this.#turn = done.catch(() => undefined); // the caller has the error; the next in turn goes on all the same
    return done;
  }
}

/** Removes a leg's file. Not by Deno's own call: legs may be anywhere, and the node has leave to write to its state only. */
function removeFile(path: string): void {
  const result = unlinkPath(path);
  if (result < 0) {
    throw new ControlError(
      "device",
      `"${path}" is wiped, but cannot be removed: ${errnoName(result)}. Remove it by hand`,
    );
  }
}
