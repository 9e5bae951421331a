/**
 * The pool as `/dev/nbdN`: the kernel's own NBD client at one end of socket pairs, the NBD server of this process at the
 * other. The terms that a handshake would agree on are told to the driver when the device is made.
 *
 * The device outlives its process: what was under way is kept by the kernel, and sent again to the next attach of the same
 * pool, which finds the device by the mark it bears and gives it new sockets. How soon depends on how many there are,
 * because the driver sends a request again only when its time is up:
 *
 * - With one socket it has no time limit while that socket lives, however long I/O waits for legs. A request whose socket
 *   has died is looked at every {@link RETRY_MS}.
 * - With several the driver takes a request out of time for a sign that its socket is dead, and kills it. So their limit
 *   must be above what I/O may wait for legs, and that is how long a take-over lets old requests wait.
 *
 * A socket that dies while this process lives is replaced.
 *
 * @module
 */

import { assert } from "../base/assert.ts";
import { errnoName } from "../../ffi/libc/errno.ts";
import { closeDescriptor } from "../../ffi/libc/file.ts";
import { newSocketPair } from "../../ffi/libc/socket.ts";
import type { BufferPool } from "../io/buffer_pool.ts";
import type { Reactor } from "../io/reactor.ts";
import type { StreamProtocol, StreamSocket } from "../io/stream_socket.ts";
import { DeviceUnavailable, LeftDeviceUnavailable } from "./device_unavailable.ts";
import type { Frontend, FrontendHost } from "./frontend.ts";
import { DeviceInUse, type NbdControl, type NbdInfo } from "./nbd_control.ts";
import { NbdExport } from "./nbd_export.ts";
import { NbdServer } from "./nbd_server.ts";

/** What {@link NbdDevice} needs. */
export interface NbdDeviceOptions {
  readonly control: NbdControl;
  readonly clock: Pick<Reactor, "nowMs">;
  readonly pool: BufferPool;
  readonly host: FrontendHost;
  readonly poolUuid: string;
  /** Why a device that the pool's former process has left may not be taken over, in the middle of a sentence; "": it may. */
  readonly leftProblem?: string;
  /** Bytes of the buffer pool that the device may have. */
  readonly memoryBytes: number;
  /** The device's number; -1 takes one that is free. */
  readonly index: number;
  /** Sockets of a new device. */
  readonly socketCount: number;
  /** How long I/O waits for legs before it fails. */
  readonly ioTimeoutMs: number;
  /** Makes a stream of a connected descriptor, which it owns from then on. */
  readonly openStream: (descriptor: number, protocol: StreamProtocol) => StreamSocket;
  /** Tells an operator what does not work as it should. */
  readonly warn: (message: string) => void;
}

/** How often the driver looks at requests whose socket has died, with one socket. */
const RETRY_MS = 5_000;
/** How often it does unless told otherwise. */
const KERNEL_RETRY_MS = 30_000;
/** With several: how much longer than I/O may wait for legs. */
const TIMEOUT_MARGIN_SECONDS = 15;
/** How long requests wait for a process to take the device over. */
const DEAD_SECONDS = 24 * 60 * 60;
/** How long the kernel may take to notice that the old sockets are dead. */
const TAKE_OVER_LIMIT_MS = 30_000;
/** First pause between attempts to replace dead sockets, which doubles up to the last. */
const RECONNECT_MS = 50;
const MAX_RECONNECT_MS = 1_000;

/** How long an end waits for requests under way. Less than the client waits for its frontends, or the device would stay. */
const STOP_GRACE_MS = 3_000;

const Phase = { TAKING_OVER: 0, LIVE: 1, STOPPING: 2, OVER: 3 } as const;

/** See the module's description. */
export class NbdDevice implements Frontend {
  readonly uri: string;
  readonly #options: NbdDeviceOptions;
  readonly #server: NbdServer;
  readonly #index: number;
  readonly #socketCount: number;
  #phase: number;
  #failure: string | null = null;
  #retryMs = Infinity;
  #stopMs = Infinity;
  #pauseMs = RECONNECT_MS;
  readonly #limitMs: number;

  /** Makes the pool's device, or takes over the one its former process has left. Throws {@link DeviceUnavailable}. */
  static open(options: NbdDeviceOptions): NbdDevice {
    try {
      const found = options.control.find(options.poolUuid);
      if (found !== null) checkLeft(found, options);
      return new NbdDevice(options, found);
    } catch (error) {
      options.control.close();
      throw error;
    }
  }

  readonly isTakenOver: boolean;

  private constructor(options: NbdDeviceOptions, left: NbdInfo | null) {
    this.isTakenOver = left !== null;
    const { host, pool, clock, memoryBytes } = options;
    this.#options = options;
    this.#socketCount = left?.socketCount ?? options.socketCount;
    this.#limitMs = clock.nowMs + TAKE_OVER_LIMIT_MS;
    const sockets = left === null ? openPairs(this.#socketCount) : [];
    try {
      this.#index = left?.index ?? this.#connect(sockets.map(([theirs]) => theirs));
    } catch (error) {
      for (const [, ours] of sockets) closeDescriptor(ours);
      throw error;
    } finally {
      // The driver holds its ends itself.
      for (const [theirs] of sockets) closeDescriptor(theirs);
    }
    this.uri = `/dev/nbd${this.#index}`;
    this.#server = new NbdServer({
      host,
      pool,
      clock,
      uri: this.uri,
      stopGraceMs: STOP_GRACE_MS,
      limits: {
        // Of those that have died, some may not have been heard of yet.
        connections: 2 * this.#socketCount + 2,
        memoryBytes,
        // The driver always takes its answers, so one socket may have it all.
        memoryBytesPerConnection: memoryBytes,
      },
    });
    for (const [, ours] of sockets) this.#serve(ours);
    this.#phase = left === null ? Phase.LIVE : Phase.TAKING_OVER;
    if (left !== null) this.#retryMs = clock.nowMs;
  }

  get isReady(): boolean {
    return this.#phase === Phase.LIVE;
  }

  get failure(): string | null {
    return this.#failure;
  }

  get deadlineMs(): number {
    return this.#phase === Phase.STOPPING ? this.#stopMs : this.#retryMs;
  }

  get connectionCount(): number {
    return this.#phase === Phase.OVER ? 0 : 1;
  }

  complete(tag: number, status: number): void {
    this.#server.complete(tag, status);
  }

  onReady(): void {
    this.#server.onReady();
  }

  flushSends(): void {
    if (this.#phase === Phase.OVER) return;
    this.#server.flushSends();
    const { nowMs } = this.#options.clock;
    if (this.#phase === Phase.STOPPING) {
      if (this.#server.connectionCount === 0) this.#disconnect();
      return;
    }
    // Sockets for which the driver has no place are closed by it, which takes a turn to be heard of.
    if (this.#retryMs !== Infinity) {
      if (nowMs >= this.#retryMs) this.#reconnect();
    } else if (this.#server.connectionCount < this.#socketCount) {
      this.#retryMs = nowMs + this.#pauseMs;
    }
  }

  /**
   * Removes the device; over when `connectionCount` is 0. Requests under way are answered first, as far as that can be done
   * in time. A device that was not yet taken over stays for the next attach.
   */
  stop(): void {
    if (this.#phase === Phase.TAKING_OVER) this.#end();
    if (this.#phase !== Phase.LIVE) return;
    this.#phase = Phase.STOPPING;
    this.#stopMs = this.#options.clock.nowMs + STOP_GRACE_MS;
    this.#server.stop();
  }

  #connect(sockets: readonly number[]): number {
    const { control, index } = this.#options;
    // The last resort is one that the driver adds, whose time limit nobody could set before there is I/O.
    const candidates = index >= 0 ? [index] : [...control.free(), -1];
    for (const candidate of candidates) {
      try {
        return this.#connectTo(candidate, sockets);
      } catch (error) {
        const isLast = candidate === candidates.at(-1);
        if (!(error instanceof DeviceInUse) || isLast) throw error;
      }
    }
    throw new DeviceUnavailable("all nbd devices are in use");
  }

  #connectTo(index: number, sockets: readonly number[]): number {
    const { control, host, poolUuid, ioTimeoutMs, warn } = this.#options;
    const { sizeBytes, logicalBlockBytes } = host.geometry;
    const isAlone = sockets.length === 1;
    const result = isAlone && index >= 0 ? control.setRetryMs(index, RETRY_MS) : 0;
    if (isAlone && (result < 0 || index < 0)) {
      const why = result < 0 ? ` (${errnoName(result)})` : "";
      warn(
        `The device keeps the kernel's time limit${why}: requests of an attach that died wait half a minute longer.`,
      );
    }
    return control.connect({
      index,
      sizeBytes,
      blockBytes: logicalBlockBytes,
      serverFlags: new NbdExport(host.geometry).transmissionFlags(false),
      identity: poolUuid,
      timeoutSeconds: isAlone ? 0 : Math.ceil(ioTimeoutMs / 1000) + TIMEOUT_MARGIN_SECONDS,
      deadSeconds: DEAD_SECONDS,
    }, sockets);
  }

  /** Gives the driver sockets for those that are missing, until it has taken them all. */
  #reconnect(): void {
    const { control, poolUuid, clock } = this.#options;
    const missing = this.#socketCount - this.#server.connectionCount;
    if (missing === 0) {
      this.#phase = Phase.LIVE;
      this.#retryMs = Infinity;
      this.#pauseMs = RECONNECT_MS;
      return;
    }
    if (this.#phase === Phase.TAKING_OVER && clock.nowMs >= this.#limitMs) {
      return this.#fail(`${this.uri} belongs to this pool and is still served by a process that lives`);
    }
    const sockets = openPairs(missing);
    const result = control.reconnect(this.#index, poolUuid, sockets.map(([theirs]) => theirs));
    for (const [theirs] of sockets) closeDescriptor(theirs);
    for (const [, ours] of sockets) this.#serve(ours);
    if (result < 0) return this.#fail(`${this.uri} was disconnected by somebody else (${errnoName(result)})`);
    this.#retryMs = clock.nowMs + this.#pauseMs;
    this.#pauseMs = Math.min(MAX_RECONNECT_MS, 2 * this.#pauseMs);
  }

  #serve(descriptor: number): void {
    const { openStream } = this.#options;
    const taken = this.#server.addConnection((protocol) => openStream(descriptor, protocol), "transmission");
    assert(taken, "there is room for the device's sockets", this.#socketCount);
  }

  #fail(failure: string): void {
    this.#failure = failure;
    this.#end();
  }

  /** All sockets are dead by now, so the driver's goodbye on each waits for nobody. */
  #disconnect(): void {
    const result = this.#options.control.disconnect(this.#index);
    if (result < 0) this.#options.warn(`${this.uri} cannot be disconnected: ${errnoName(result)}`);
    // As the next one to use it expects it; nothing depends on it.
    else this.#options.control.setRetryMs(this.#index, KERNEL_RETRY_MS);
    this.#end();
  }

  #end(): void {
    this.#phase = Phase.OVER;
    this.#retryMs = Infinity;
    this.#server.stop();
    this.#options.control.close();
  }
}

/** Pairs of connected descriptors: the driver's end, ours. Throws {@link DeviceUnavailable}. */
function openPairs(count: number): [number, number][] {
  const pairs: [number, number][] = [];
  for (let i = 0; i < count; i++) {
    const pair = newSocketPair();
    if (typeof pair === "number") {
      for (const descriptor of pairs.flat()) closeDescriptor(descriptor);
      throw new DeviceUnavailable(`no sockets can be made: ${errnoName(pair)}`);
    }
    pairs.push(pair);
  }
  return pairs;
}

/** Whether a device that the pool's former process has left can be taken over. Throws {@link DeviceUnavailable}. */
function checkLeft(left: NbdInfo, { host, index, leftProblem }: NbdDeviceOptions): void {
  const path = `/dev/nbd${left.index}`;
  const { sizeBytes, readOnly } = host.geometry;
  const remove = `remove it (nbd-client -d ${path})`;
  if (index >= 0 && index !== left.index) {
    throw new LeftDeviceUnavailable(`this pool has left ${path}, which waits for it; take that, or ${remove}`);
  }
  if (leftProblem) throw new LeftDeviceUnavailable(`${path} was left by this pool, and ${leftProblem}`);
  if (left.sizeBytes !== sizeBytes) {
    throw new LeftDeviceUnavailable(
      `${path} was left by this pool with ${left.sizeBytes} bytes, and it has ${sizeBytes} now; ${remove}`,
    );
  }
  if (left.isReadOnly !== readOnly) {
    throw new LeftDeviceUnavailable(
      `${path} was left by this pool ${left.isReadOnly ? "read-only" : "writable"}; attach it so again, or ${remove}`,
    );
  }
}
