/**
 * Which legs a storage node has: keeps the state directory and the data plane in step, and does what operators ask of legs.
 *
 * A leg is entered in the state directory before it is served, and noted there as being erased before it is wiped. So a crash leaves at worst a
 * leg that is reported as broken, one that is erased at the next start, or one that was formatted and not entered: nothing trusts such a
 * one, and the command that made it takes it up when it is repeated. None is ever served unknown to the directory.
 *
 * @module
 */

import {
  type BrokenLeg,
  ControlError,
  type LegCreate,
  type LegProbe,
  type LegShape,
  type LegStatus,
  type NodeOperations,
} from "../control/control_api.ts";
import type { LegSnapshot } from "../core/snapshot.ts";
import { DeviceLooks } from "./device_looks.ts";
import type { DeviceWork } from "./device_workers.ts";
import type { KnownLeg, NodeState } from "./node_state.ts";
import { onceReleased, RELEASE_LIMIT_MS } from "./once_released.ts";
import type { ErasedLeg } from "./worker_messages.ts";
import type { WorkerPort } from "./worker_port.ts";

/** The legs of one storage node. */
export class LegRegistry {
  readonly #state: NodeState;
  readonly #port: WorkerPort;
  readonly #devices: DeviceWork;
  readonly #broken = new Map<string, string>();
  /** By path of a broken leg: how often it has been tried again. */
  readonly #tries = new Map<string, number>();
  readonly #looks: DeviceLooks;
  /** Changes are made one after the other. */
  #turn: Promise<unknown> = Promise.resolve();

  readonly #releaseLimitMs: number;

  constructor(state: NodeState, port: WorkerPort, devices: DeviceWork, releaseLimitMs = RELEASE_LIMIT_MS) {
    this.#state = state;
    this.#port = port;
    this.#devices = devices;
    this.#looks = new DeviceLooks(devices);
    this.#releaseLimitMs = releaseLimitMs;
  }

  /** Legs that are known and cannot be served. */
  get broken(): readonly BrokenLeg[] {
    return [...this.#broken].map(([path, reason]) => {
      const tries = this.#tries.get(path) ?? 0;
      const message = tries === 0 ? reason : `${reason} (tried again ${tries === 1 ? "once" : `${tries} times`})`;
      const leg = this.#state.legs.find((each) => each.path === path);
      return { path, legUuid: leg?.legUuid ?? "", message, leg: leg?.shape };
    });
  }

  /** Takes note, in the state directory, of what the served legs are like: one whose disk dies can then be replaced from here alone. */
  remember(): Promise<void> {
    return this.#inTurn(async () => {
      const { legs } = await this.status();
      await this.#state.noteShapes(new Map(legs.map(({ snapshot }) => [snapshot.legUuid, shapeOf(snapshot)])));
    });
  }

  /** Opens every known leg; returns how many are served. `onHeld` hears of devices that are waited for. */
  async openAll(onHeld: (message: string) => void): Promise<number> {
    let count = 0;
    const untilMs = performance.now() + this.#releaseLimitMs;
    for (const leg of this.#state.legs) {
      try {
        const request = { path: leg.path, poolUuid: leg.poolUuid, legUuid: leg.legUuid };
        const open = () => this.#looks.look(leg.path).then(() => this.#port.request("leg.open", request));
        await onceReleased(open, untilMs, onHeld);
        count++;
      } catch (error) {
        this.#broken.set(leg.path, (error as Error).message);
      }
    }
    return count;
  }

  /** Tries again to open what could not be opened: its disk may have come late. Returns the paths of what is served now. */
  async openBroken(): Promise<string[]> {
    const opened: string[] = [];
    for (const path of [...this.#broken.keys()]) {
      const problem = await this.#looks.look(path).then(() => "", (error) => (error as Error).message);
      if (await this.#inTurn(() => this.#reopen(path, problem))) opened.push(path);
    }
    return opened;
  }

  /** `problem`: what keeps it from being opened, as was seen a moment ago. Returns whether it is served now. */
  async #reopen(path: string, problem: string): Promise<boolean> {
    const leg = this.#state.legs.find((each) => each.path === path);
    if (leg === undefined || !this.#broken.has(path)) return false;
    let reason = problem;
    if (reason === "") {
      const request = { path, poolUuid: leg.poolUuid, legUuid: leg.legUuid };
      await this.#port.request("leg.open", request).catch((error) => reason = (error as Error).message);
    }
    if (reason !== "") {
      this.#broken.set(path, reason);
      this.#tries.set(path, (this.#tries.get(path) ?? 0) + 1);
      return false;
    }
    this.#broken.delete(path);
    this.#tries.delete(path);
    return true;
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

  /**
   * Erases what was to be erased when the node ended before.
   * @param onHeld hears of devices that are waited for
   * @returns what could not be erased: a sentence for each. What a device refused is tried again at the next start
   */
  finishErasing(onHeld: (message: string) => void): Promise<string[]> {
    return this.#inTurn(async () => {
      const problems: string[] = [];
      const untilMs = performance.now() + this.#releaseLimitMs;
      for (const leg of this.#state.erasing) {
        try {
          await onceReleased(() => this.#erase(leg), untilMs, onHeld);
        } catch (error) {
          if (!(error instanceof ControlError)) throw error;
          if (error.code !== "not-found") problems.push(error.message);
        }
      }
      return problems;
    });
  }

  /** Erases a leg that the directory notes as being erased, which it does until that is done or there is no such leg any more. */
  async #erase(leg: ErasedLeg): Promise<void> {
    const { path, poolUuid, legUuid, createdFile } = leg;
    try {
      await this.#devices.erase({ path, poolUuid, legUuid, createdFile });
    } catch (error) {
      const isNotThere = error instanceof ControlError && (error.code === "foreign-data" || error.code === "not-found");
      if (isNotThere) await this.#state.endErasing(legUuid);
      throw error;
    }
    await this.#state.endErasing(legUuid);
  }

  /** Ends what is under way at devices and refuses what comes; resolves when no change is under way any more. */
  async stop(): Promise<void> {
    await this.#devices.stop();
    await this.#turn;
  }

  /** What is at `path`; only its known marks if so wanted. Changes of other paths do not wait for it. */
  probe(path: string, signaturesOnly: boolean): Promise<LegProbe> {
    return this.#devices.probe(path, signaturesOnly);
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
      // Legs that start in sync together must be equal, and only zeroes are. The first of several legs keeps its content.
      const isAlone = request.shared.inSyncMask === 1 << request.legIndex;
      const isInSync = (request.shared.inSyncMask & 1 << request.legIndex) !== 0;
      const { createdFile } = await this.#devices.format({
        ...request,
        zeroData: isInSync && !isAlone,
        createdMs: Date.now(),
      });
      const leg = {
        path: request.path,
        poolUuid: request.poolUuid,
        legUuid: request.legUuid,
        createdFile,
        shape: shapeOfRequest(request),
      };
      await this.#state.addLeg(leg);
      await this.#open(leg);
      return { legUuid: request.legUuid };
    });
  }

  /**
   * Makes the device at `request.path` a leg in place of `request.replacesUuid`, whose disk is gone or no longer wanted. Until the new leg
   * is formatted nothing has changed; the directory then knows one or the other. The disk of the leg before is left as it is. A disk that was
   * to replace the same leg, and has not been taken in, goes.
   */
  replace(request: LegCreate & { readonly replacesUuid: string }): Promise<{ legUuid: string }> {
    return this.#inTurn(async () => {
      const { path, poolUuid, legUuid, replacesUuid } = request;
      const old = this.#state.legs.find((leg) => leg.poolUuid === poolUuid && leg.legUuid === replacesUuid);
      const earlier = this.#state.legs.find((leg) =>
        leg.poolUuid === poolUuid && leg.replaced?.legUuid === replacesUuid
      );
      // A new disk often has the path of the dead one.
      const isInPlace = old?.path === path && this.#broken.has(path);
      if (!isInPlace && this.#state.legs.some((leg) => leg.path === path && leg !== earlier)) {
        throw new ControlError("in-use", `"${path}" is a leg of this node already. Choose another device`);
      }
      if (earlier !== undefined) await this.#expectUntouched(earlier);
      // A device can be formatted only when nobody has it open.
      if (earlier?.path === path) await this.#retire(earlier);
      let createdFile = earlier?.path === path && earlier.createdFile;
      try {
        const made = await this.#devices.format({ ...request, zeroData: false, createdMs: Date.now() });
        createdFile ||= made.createdFile;
      } catch (error) {
        if (earlier?.path === path) await this.#open(earlier);
        throw error;
      }
      const replaced = earlier?.replaced ??
        (old === undefined || isInPlace
          ? undefined
          : { path: old.path, legUuid: old.legUuid, createdFile: old.createdFile });
      const leg = { path, poolUuid, legUuid, createdFile, shape: shapeOfRequest(request), replaced };
      const erased = earlier?.path === path || this.#broken.has(earlier?.path ?? "") ? undefined : earlier;
      await this.#state.replaceLeg([replacesUuid, ...earlier === undefined ? [] : [earlier.legUuid]], leg, erased);
      // It leaves service at once, and nothing here needs its device: that may hang, which is what it is replaced for. Where it has not left, the new
      // leg cannot be opened in its place, which is told.
      if (old !== undefined && !this.#broken.delete(old.path)) this.#close(old, true).catch(() => undefined);
      const wasServed = earlier !== undefined && earlier.path !== path && await this.#retire(earlier);
      await this.#open(leg);
      if (wasServed) await this.#erase(earlier);
      return { legUuid };
    });
  }

  /** Takes back a `replace`, while nobody has claimed the leg that it made. */
  undoReplace(
    { poolUuid, legUuid }: { readonly poolUuid: string; readonly legUuid: string },
  ): Promise<{ legUuid: string; path: string; problem: string }> {
    return this.#inTurn(async () => {
      const leg = this.#state.legs.find((each) => each.poolUuid === poolUuid && each.legUuid === legUuid);
      if (leg?.replaced === undefined) {
        throw new ControlError("not-found", `This node has no leg ${legUuid} that was made in place of another`);
      }
      await this.#expectUntouched(leg);
      const { replaced } = leg;
      if (this.#state.legs.some((each) => each.path === replaced.path)) {
        throw new ControlError(
          "in-use",
          `"${replaced.path}", where the leg before was, is another leg of this node by now; it cannot come back`,
        );
      }
      const shape = leg.shape === undefined ? undefined : { ...leg.shape, legUuid: replaced.legUuid };
      const before = { poolUuid, ...replaced, shape };
      await this.#state.replaceLeg([legUuid], before, this.#broken.has(leg.path) ? undefined : leg);
      const wasServed = await this.#retire(leg);
      let problem = "";
      await this.#open(before).catch((error) => problem = (error as Error).message);
      if (wasServed) await this.#erase(leg);
      return { legUuid: replaced.legUuid, path: replaced.path, problem };
    });
  }

  /** A leg that was made in place of another, and that somebody has claimed since, may be relied upon. */
  async #expectUntouched(leg: KnownLeg): Promise<void> {
    if (this.#broken.has(leg.path)) return;
    const { legs } = await this.status();
    const record = legs.find(({ snapshot }) => snapshot.legUuid === leg.legUuid)?.snapshot.record;
    if (record === undefined || record.promisedGeneration === 0) return;
    throw new ControlError(
      "refused",
      `The pool has taken in the disk at "${leg.path}": its data goes there now, and the disk before it is no longer trusted. ` +
        `To have that one back, replace the leg once more, by it`,
    );
  }

  /** Serves a leg that the directory knows. One that cannot be is noted as broken. */
  async #open({ path, poolUuid, legUuid }: KnownLeg): Promise<void> {
    try {
      await this.#port.request("leg.open", { path, poolUuid, legUuid });
    } catch (error) {
      this.#broken.set(path, (error as Error).message);
      throw error;
    }
  }

  /** Takes a leg out of service; returns whether it was in. */
  async #retire(leg: KnownLeg): Promise<boolean> {
    if (this.#broken.delete(leg.path)) return false;
    await this.#close(leg, true);
    return true;
  }

  /** Returns when the device of a leg is free. One that hangs is noted as broken: its leg is out of service all the same. */
  async #close(leg: KnownLeg, force: boolean): Promise<void> {
    try {
      await this.#port.request("leg.close", { legUuid: leg.legUuid, force });
    } catch (error) {
      if (!(error instanceof ControlError)) throw error;
      // It was closed before, by a command that did not get further.
      if (error.code === "not-found") return;
      if (error.code !== "timeout") throw error;
      const message = `"${leg.path}" does not answer: its disk hangs`;
      if (this.#state.legs.some((each) => each.legUuid === leg.legUuid)) this.#broken.set(leg.path, message);
      throw new ControlError(
        "device",
        `${message}. Its leg is out of service; try again, or add --force to leave the disk as it is`,
      );
    }
  }

  /** Takes a leg out of service, wipes its metadata, forgets it, and removes the file if the node made it. */
  delete(request: NodeOperations["leg.delete"]["request"]): Promise<Record<string, never>> {
    return this.#inTurn(async () => {
      const leg = this.#state.legs.find((each) =>
        each.poolUuid === request.poolUuid && each.legUuid === request.legUuid
      );
      const half = this.#state.erasing.find((each) => each.legUuid === request.legUuid);
      if (leg === undefined && half !== undefined) {
        await this.#erase(half);
        return {};
      }
      if (leg === undefined) {
        throw new ControlError("not-found", `This node has no leg ${request.legUuid} of pool ${request.poolUuid}`);
      }
      if (!this.#broken.has(leg.path)) {
        await this.#close(leg, request.force);
      } else if (!request.force) {
        throw new ControlError(
          "refused",
          `Leg "${leg.path}" is broken (${this.#broken.get(leg.path)}). Repair it, or delete it with --force`,
        );
      }
      await this.#state.removeLeg(leg.path, this.#broken.has(leg.path) ? undefined : leg);
      const wasBroken = this.#broken.delete(leg.path);
      // A broken leg may be gone, or be someone else's disk by now: it is forgotten, and left as it is.
      if (wasBroken) return {};
      await this.#erase(leg);
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
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined); // the caller has the error; the next in turn goes on all the same
    return done;
  }
}

function shapeOf(snapshot: LegSnapshot): LegShape {
  const { poolUuid, poolName, legUuid, legIndex, sizeBytes, chunkBytes, logicalBlockBytes, extentBytes } = snapshot;
  const hotExtentCount = snapshot.hotExtentLimit;
  const { shared } = snapshot.record;
  return {
    ...{ poolUuid, poolName, legUuid, legIndex, sizeBytes, chunkBytes, logicalBlockBytes, extentBytes, hotExtentCount },
    shared,
  };
}

function shapeOfRequest(request: LegCreate): LegShape {
  const { force: _force, path: _path, replacesUuid: _replaces, ...shape } = request;
  return shape;
}
