/**
 * What the main isolate may ask of a storage node's data plane: listen, open and close legs, tell how things stand. Rare
 * work, between turns of the loop; opening a leg reads its records synchronously, which holds other legs up for a
 * moment.
 *
 * @module
 */

import { Errno } from "../../ffi/libc/errno.ts";
import { ControlError, type LegStatus, type NodeOperations } from "../control/control_api.ts";
import { Caretaker } from "../core/caretaker.ts";
import { LegServer, type LoadedMapPage } from "../core/leg_server.ts";
import type { Reach } from "../core/leg_addresses.ts";
import { isWildcard } from "../control/node_address.ts";
import { MAX_LEGS } from "../disk_format/records.ts";
import { ListenFailed } from "../io/listen_socket.ts";
import type { Reactor } from "../io/reactor.ts";
import { DeviceFile, type LoadedLeg, loadLeg, StoreError } from "../store/leg_device.ts";
import { openLegStore } from "../store/leg_store.ts";
import { readBootId } from "./boot_id.ts";
import { dirtyMapReport } from "./dirty_map_report.ts";
import { LegDriver } from "./leg_driver.ts";
import { OperatorSession } from "./operator_session.ts";
import type { StorageWorker } from "./storage_worker.ts";
import type { PlainError, WorkerReport, WorkerRequest } from "./worker_messages.ts";

/** Share of the buffer memory that one client may have in flight: what several clients and resyncs may take together. */
const CREDIT_DIVISOR = 4;

/** How long a node that is to end waits for its devices. */
export const STOP_LIMIT_MS = 20_000;

/** A leg that leaves service once its device is quiet. */
interface Closing {
  readonly driver: LegDriver;
  /** Who waits for it; null for the end of the node. */
  readonly requestId: number | null;
  /** Its connections have ended, and with them its session. */
  isAlone: boolean;
}

/** What legs and sessions of the node are told of it. */
export interface StorageFacts {
  readonly nodeName: string;
  /** Where others are to reach it. Grows when it comes to listen elsewhere, unless these are all. */
  readonly addresses: string[];
  readonly hasAllAddresses: boolean;
  /** By what it reaches others. */
  readonly reach: Reach;
}

/** Carries out requests of the main isolate. */
export class StorageOperations {
  readonly #worker: StorageWorker;
  readonly #reactor: Reactor;
  readonly #report: (report: WorkerReport) => void;
  readonly #bootId = readBootId();
  readonly #facts: StorageFacts;
  #closing: Closing[] = [];
  /** When the node ends at the latest; Infinity while it is not to. */
  #stopAtMs = Infinity;

  constructor(
    worker: StorageWorker,
    reactor: Reactor,
    facts: StorageFacts,
    report: (report: WorkerReport) => void,
  ) {
    this.#worker = worker;
    this.#facts = facts;
    this.#reactor = reactor;
    this.#report = report;
  }

  /** Answers now, or later from `afterTurn`. What goes wrong is told, never thrown. */
  handle({ id, op, request }: WorkerRequest): void {
    try {
      if (this.#stopAtMs !== Infinity) throw new ControlError("refused", "The node is stopping");
      if (op === "leg.close") this.#closeLeg(id, request);
      else if (op === "operator.begin") this.#beginOperator(id, request.pool);
      else if (op === "operator.ask") this.#askOperator(id, request);
      else this.#report({ kind: "response", id, result: this.#perform(op, request) });
    } catch (error) {
      this.#report({ kind: "response", id, error: plainError(error) });
    }
  }

  /**
   * The node is to end. Its legs leave service: their clients go on elsewhere at once, and what they acked is flushed and noted to be on stable
   * storage, so that the end of the machine takes nothing with it.
   */
  stop(): void {
    if (this.#stopAtMs !== Infinity) return;
    // Of the clock and not of the turn: what was handled before in this turn may have taken long.
    this.#stopAtMs = this.#reactor.clockMs() + STOP_LIMIT_MS;
    this.#worker.turnAway();
    for (const driver of [...this.#worker.drivers]) this.#retire(driver, null);
  }

  /** Whether it may: all legs are quiet, or a device has not answered for too long. */
  get isStopped(): boolean {
    return this.#stopAtMs !== Infinity && (this.#closing.length === 0 || this.#reactor.nowMs >= this.#stopAtMs);
  }

  /** When the next turn has to end at the latest. */
  get deadlineMs(): number {
    return this.#stopAtMs;
  }

  /** Legs that are to be closed and have become quiet. */
  afterTurn(): void {
    for (const driver of this.#worker.drivers) if (driver.operator?.isOver) this.#endOperator(driver);
    if (this.#closing.length === 0) return;
    for (const closing of this.#closing) {
      const { driver } = closing;
      driver.retryReads(); // the worker does so for legs in service only
      if (closing.isAlone || this.#worker.hasConnections(driver)) continue;
      closing.isAlone = true;
      driver.endSession();
    }
    // What the end of a connection or a session has the leg do (a flush, say) needs the device yet.
    const quiet = this.#closing.filter(({ driver, isAlone }) => isAlone && driver.isQuiet);
    this.#closing = this.#closing.filter((closing) => !quiet.includes(closing));
    for (const { driver, requestId } of quiet) {
      driver.close();
      if (requestId !== null) this.#report({ kind: "response", id: requestId, result: {} });
    }
    if (this.#closing.length > 0 && this.isStopped) {
      for (const { driver } of this.#closing) {
        const message =
          `"${driver.path}" has not answered for ${STOP_LIMIT_MS / 1000} s: what it was not made to flush is ` +
          "lost if the machine goes down now";
        this.#worker.reportEvent(driver, { level: "warning", name: "leg-not-flushed", message });
      }
    }
  }

  #retire(driver: LegDriver, requestId: number | null): void {
    this.#worker.removeLeg(driver);
    this.#closing.push({ driver, requestId, isAlone: false });
  }

  // deno-lint-ignore no-explicit-any -- main has validated the arguments of each operation
  #perform(op: string, request: any): unknown {
    switch (op) {
      case "listen":
        return request.addresses.map((address: string) => this.#listen(address));
      case "leg.open":
        return this.#openLeg(request);
      case "status":
        return {
          legs: this.#legs(() => true),
          bufferBytes: this.#worker.pool.totalBytes,
          operated: this.#worker.drivers.filter((each) => each.operator !== null).map((each) => each.poolUuid),
        };
      case "pool.dirtyMap":
        return this.#dirtyMap(request);
      case "resync.set":
        return this.#setResync(request);
      default:
        throw new ControlError("internal", `The data plane has no operation "${op}"`);
    }
  }

  #listen(address: string): string {
    try {
      const { boundAddress } = this.#worker.transport.listen(address);
      const { addresses, hasAllAddresses } = this.#facts;
      const isNew = !hasAllAddresses && !isWildcard(boundAddress) && !addresses.includes(boundAddress);
      if (isNew) addresses.push(boundAddress);
      return boundAddress;
    } catch (error) {
      // What somebody else has may become free; an address that the machine does not have does not come by itself.
      const isHopeless = error instanceof ListenFailed && error.result !== -Errno.EADDRINUSE;
      throw new ControlError(isHopeless ? "refused" : "in-use", (error as Error).message);
    }
  }

  #openLeg({ path, poolUuid, legUuid }: { path: string; poolUuid: string; legUuid: string }): unknown {
    const device = DeviceFile.open(path, { access: "exclusive" });
    try {
      const loaded = loadLeg(device);
      const { superblock } = loaded;
      if (superblock.poolUuid !== poolUuid || superblock.legUuid !== legUuid) {
        throw new ControlError(
          "foreign-data",
          `"${path}" holds leg ${superblock.legUuid} of pool "${superblock.poolName}", not the leg ${legUuid} that this ` +
            `node knows. Was the disk replaced or renamed? Give the node the right one, or delete the leg`,
        );
      }
      if (this.#worker.drivers.some((each) => each.poolUuid === poolUuid && each.legIndex === superblock.legIndex)) {
        throw new ControlError("exists", `This node serves leg ${superblock.legIndex} of that pool already`);
      }
      this.#serve(device, loaded);
      return { legIndex: superblock.legIndex };
    } catch (error) {
      device.close();
      throw error;
    }
  }

  #serve(device: DeviceFile, loaded: LoadedLeg): void {
    const { superblock } = loaded;
    const pool = this.#worker.pool;
    const core = new LegServer({
      superblock,
      record: loaded.record,
      intentSlots: loaded.intentSlots.subarray(0, superblock.hotExtentCount),
      intentsDamaged: loaded.intentsDamaged,
      mapPages: corePages(loaded),
      metadataSequence: loaded.maxSequence,
      bootId: this.#bootId,
      instance: crypto.randomUUID(),
      addresses: this.#facts.addresses,
      reach: this.#facts.reach,
      nowMs: this.#reactor.nowMs,
      creditBytes: Math.floor(pool.totalBytes / CREDIT_DIVISOR),
    });
    const caretaker = new Caretaker(core, {
      nowMs: this.#reactor.nowMs,
      wallMs: Date.now,
      nextRandom: Math.random,
      newUuid: () => crypto.randomUUID(),
      name: `the caretaker of leg ${superblock.legIndex}`,
    });
    const driver = new LegDriver(this.#worker, superblock, device.path, core, caretaker);
    driver.attach(openLegStore({
      device,
      reactor: this.#reactor,
      pool,
      onBlockDone: (token, result) => driver.onBlockDone(token, result),
      onMetadataDone: (token, result) => driver.onMetadataDone(token, result),
    }));
    this.#worker.addLeg(driver);
    for (const message of loaded.findings) {
      this.#worker.reportEvent(driver, { level: "warning", name: "leg-repaired", message });
    }
  }

  #closeLeg(requestId: number, { legUuid, force }: { legUuid: string; force: boolean }): void {
    const driver = this.#worker.drivers.find((each) => each.legUuid === legUuid);
    if (driver === undefined) throw new ControlError("not-found", `This node serves no leg ${legUuid}`);
    const { session } = driver.core.snapshot();
    if (session !== null && !session.isCaretaker && !force) {
      throw new ControlError(
        "in-use",
        `The pool is attached by ${session.clientName}. Detach it first, or use --force`,
      );
    }
    this.#retire(driver, requestId);
  }

  #legs(wanted: (driver: LegDriver) => boolean): LegStatus[] {
    const legs: LegStatus[] = [];
    for (const driver of this.#worker.drivers) {
      if (wanted(driver)) legs.push({ path: driver.path, snapshot: driver.core.snapshot() });
    }
    return legs;
  }

  #driversOf(pool: string): LegDriver[] {
    const drivers = this.#worker.drivers.filter((each) => each.poolUuid === pool || each.poolName === pool);
    if (drivers.length === 0) throw new ControlError("not-found", `This node has no leg of pool "${pool}"`);
    return drivers;
  }

  /** Begins an operator's session at a leg of the pool, or joins the one there is. Answered when the pool is had. */
  #beginOperator(requestId: number, pool: string): void {
    const drivers = this.#driversOf(pool);
    const driver = drivers.find((each) => each.operator !== null) ?? drivers[0];
    if (driver.operator?.isOver) this.#endOperator(driver);
    driver.operator ??= new OperatorSession({
      leg: driver.core,
      host: this.#worker,
      name: `the operator's session at ${this.#facts.nodeName}`,
      connect: (legIndex, address) => this.#worker.connectOperator(driver, legIndex, address),
      report: (event) => this.#worker.reportEvent(driver, event),
      answer: (id, result, error) => this.#report({ kind: "response", id, result, error }),
    });
    driver.operator.begin(requestId);
  }

  /** A session is over. Who came while it was letting go has the next one. */
  #endOperator(driver: LegDriver): void {
    const waiting = driver.operator?.waiting ?? [];
    driver.operator = null;
    for (const requestId of waiting) this.#beginOperator(requestId, driver.poolUuid);
  }

  #askOperator(requestId: number, ask: NodeOperations["operator.ask"]["request"]): void {
    const operator = this.#driversOf(ask.pool).find((each) => each.operator !== null)?.operator ?? null;
    if (operator === null) {
      throw new ControlError(
        "refused",
        "The operator's session is over (a client may have taken the pool, or a leg was lost); look with status, " +
          "and repeat the command",
      );
    }
    operator.ask(requestId, ask.holder, ask.operation, ask.request);
  }

  #dirtyMap(request: NodeOperations["pool.dirtyMap"]["request"]): NodeOperations["pool.dirtyMap"]["result"] {
    const driver = this.#driversOf(request.pool).find((each) => each.legIndex !== request.legIndex);
    if (driver === undefined) {
      throw new ControlError("not-found", `Leg ${request.legIndex} is on this node, and what a leg lacks, others know`);
    }
    const map = driver.core.dirtyMap(request.legIndex);
    if (map === null) throw new ControlError("not-found", `Pool "${request.pool}" has no leg ${request.legIndex}`);
    return dirtyMapReport(request, driver.core.snapshot(), map);
  }

  #setResync(request: NodeOperations["resync.set"]["request"]): { legs: number } {
    const drivers = this.#driversOf(request.pool);
    for (const driver of drivers) driver.setResync(request);
    return { legs: drivers.length };
  }
}

/** The pages of the legs that are out of sync, as the core takes them. */
function* corePages(loaded: LoadedLeg): Generator<LoadedMapPage> {
  for (let legIndex = 0; legIndex < MAX_LEGS; legIndex++) {
    const entry = loaded.record.shared.legs[legIndex] ?? null;
    if (entry === null) continue;
    for (const { page, words, damaged } of loaded.mapPages(legIndex)) {
      yield { legIndex, page, mapIncarnation: entry.mapIncarnation, words: damaged ? null : words };
    }
  }
}

/** An error as it crosses to the main isolate. */
export function plainError(error: unknown): PlainError {
  if (error instanceof ControlError || error instanceof StoreError) return { code: error.code, message: error.message };
  return { code: "internal", message: error instanceof Error ? error.stack ?? error.message : String(error) };
}
