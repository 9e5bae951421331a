/**
 * One simulated world: storage nodes with disks, a client, a network, an application, faults, and the checkers, all driven by
 * one queue of events and one source of chance. A world is a pure function of its plan.
 *
 * A world lives through three stages. `load`: the application works while faults strike. `calm`: no more faults, the dead
 * are started again, and the pool must become whole in bounded time. `verify`: everything is read once more, the client
 * flushes and detaches, and the disks are compared.
 *
 * @module
 */

import { Prng } from "../../lib/base/prng.ts";
import type { CoreEvent } from "../../lib/core/output.ts";
import { computeLayout, type Layout } from "../../lib/disk_format/layout.ts";
import { Application } from "./application.ts";
import { exponential, part, under } from "./chance.ts";
import { Checks, maskOf } from "./checks.ts";
import { ClientProcess } from "./client_process.ts";
import { formatDisk, peekRecord, sectorsOf } from "./disk_image.ts";
import type { EventHeap, SimEvent } from "./event_heap.ts";
import { EventKind } from "./event_kind.ts";
import { strike } from "./faults.ts";
import { FinalCheck } from "./final_check.ts";
import { ForcedStarts } from "./forced_starts.ts";
import { Histories } from "./histories.ts";
import type { Lab } from "./lab.ts";
import { LegProcess } from "./leg_process.ts";
import { ReaderProcess } from "./reader_process.ts";
import { LegTable } from "./leg_table.ts";
import { Losses } from "./losses.ts";
import { type Connection, type Frame, Network } from "./network.ts";
import { OperatorProcess } from "./operator_process.ts";
import type { Oracle } from "./oracle.ts";
import { drawUuid, type Plan } from "./plan.ts";
import type { Process } from "./process.ts";
import { type DiskOperation, SimDisk } from "./sim_disk.ts";
import { endStrangeFaults } from "./strange_faults.ts";
import type { SlotTable } from "./slots.ts";
import type { Trace } from "./trace.ts";
import { Violation } from "./violation.ts";
import { describeSector, expectIdentical, heldSlots, legsUnwholeness, tableUnwholeness } from "./wholeness.ts";

/** How long the load may last. */
const LOAD_LIMIT_MS = 60_000;
/** How long the pool may take to become whole after the last fault. */
const CALM_LIMIT_MS = 180_000;
const INSPECT_MS = 250;
/** How long a leg may hold memory once the pool has been given back. */
const REST_LIMIT_MS = 10_000;
/** A world of this many events goes round in circles. */
const EVENT_LIMIT = 1_000_000;

/** See the module comment. */
export class World {
  readonly plan: Plan;
  readonly prng: Prng;
  readonly heap: EventHeap;
  readonly slots: SlotTable;
  readonly oracle: Oracle;
  readonly network: Network;
  readonly layout: Layout;
  readonly legs: LegProcess[] = [];
  /** The client that has the pool, and a second one that may take it over. */
  client: ClientProcess;
  readonly clients: ClientProcess[] = [];
  /** The session of an operator's own, while there is one. */
  readonly operator: OperatorProcess;
  /** Those that have it read-only. */
  readonly readers: ReaderProcess[] = [];
  readonly processes: Process[] = [];
  readonly application: Application;
  readonly checks: Checks;
  readonly losses: Losses;
  readonly histories: Histories;
  readonly forced: ForcedStarts;
  readonly table: LegTable;
  readonly journal: Trace | null;
  readonly counts = { faults: 0, events: 0, clientStarts: 0 };
  nowMs = 0;
  stage: "load" | "calm" | "verify" | "rest" | "end" | "scenario" = "load";
  /** A sector whose changes are traced; -1 for none. */
  watchedSector = -1;
  /** Called before each event with its number: faults can be placed exactly. */
  onStep: ((event: number) => void) | null = null;
  #lastSeen = "";
  #calmSinceMs = 0;
  #restSinceMs = 0;
  /** The legs are to become whole without a client first. */
  #isClientless = false;
  readonly #finalCheck = new FinalCheck(this);
  #refusals = 0;
  #lastRefusal = "";

  constructor(lab: Lab, plan: Plan, journal: Trace | null) {
    this.plan = plan;
    this.journal = journal;
    this.prng = new Prng(plan.seed).fork();
    this.heap = lab.heap;
    this.slots = lab.slots;
    this.oracle = lab.oracle;
    lab.heap.clear();
    lab.slots.clear();
    lab.oracle.reset(sectorsOf(plan.shape));
    this.layout = computeLayout(plan.shape);
    this.network = new Network(lab.heap, this.prng, plan.network, plan.legCount + 4 + plan.readerCount);
    for (let i = 0; i < plan.legCount; i++) {
      while (lab.disks.length <= i) lab.disks.push(new SimDisk(lab.disks.length));
      const disk = lab.disks[i];
      disk.reset(sectorsOf(plan.shape));
      const leg = new LegProcess(this, i, i, disk);
      leg.hasLeg = i < plan.legCount - plan.spareCount;
      leg.legUuid = plan.shape.legUuids[i] ?? "";
      if (leg.hasLeg) formatDisk(disk, plan.shape);
      leg.turnMs = plan.turnMs;
      this.legs.push(leg);
      this.processes.push(leg);
    }
    for (const name of ["client", "client-2"]) {
      const client = new ClientProcess(this, plan.legCount + this.clients.length, name);
      client.turnMs = plan.turnMs;
      this.clients.push(client);
      this.processes.push(client);
    }
    this.client = this.clients[0];
    this.operator = new OperatorProcess(this, plan.legCount + 2);
    this.operator.turnMs = plan.turnMs;
    this.processes.push(this.operator);
    for (let i = 0; i < plan.readerCount; i++) {
      const reader = new ReaderProcess(this, this.processes.length, `reader-${i}`);
      reader.turnMs = plan.turnMs;
      this.readers.push(reader);
      this.processes.push(reader);
    }
    this.table = new LegTable(this);
    this.application = new Application(this);
    this.checks = new Checks(this, this.layout);
    const { shared } = peekRecord(lab.disks[0], this.layout.epochOffset);
    this.losses = new Losses(this, shared);
    this.histories = new Histories(this, shared);
    this.forced = new ForcedStarts(this);
  }

  /** Whether disks and networks misbehave. */
  get faulty(): boolean {
    return this.stage === "load";
  }

  get tracing(): boolean {
    return this.journal !== null;
  }

  trace(who: string, what: string): void {
    this.journal?.add(this.nowMs, who, what);
  }

  /** A line about the world itself. */
  note(what: string): void {
    this.journal?.add(this.nowMs, "world", what);
  }

  newUuid(): string {
    return drawUuid(this.prng);
  }

  /** Everything is switched on. */
  start(): void {
    for (const leg of this.legs) leg.start();
    this.client.start(false);
    for (const reader of this.readers) reader.start(false);
  }

  /** Lives from beginning to end. Throws at the first violation. */
  run(): void {
    this.start();
    if (this.plan.faults.length > 0) this.#scheduleFault();
    this.heap.push(LOAD_LIMIT_MS, EventKind.CALM, this, 0);
    while (this.stage !== "end") this.#step();
  }

  /** For scenarios: lives on until `holds`, or until `limitMs` of virtual time have passed; returns whether it held. */
  runUntil(holds: () => boolean, limitMs: number): boolean {
    const endMs = this.nowMs + limitMs;
    while (!holds()) {
      if (this.heap.nextMs > endMs) {
        this.nowMs = endMs;
        this.network.nowMs = endMs;
        return holds();
      }
      this.#step();
    }
    return true;
  }

  /** The next event happens. */
  #step(): void {
    const event = this.heap.pop();
    if (event === null) throw new Violation("converges", `nothing happens any more in stage ${this.stage}`);
    if (++this.counts.events > EVENT_LIMIT) throw new Violation("converges", `more than ${EVENT_LIMIT} events`);
    if (event.timeMs > this.nowMs) this.nowMs = event.timeMs;
    this.network.nowMs = this.nowMs;
    this.onStep?.(this.counts.events);
    if (!this.#defer(event)) this.#dispatch(event);
    this.heap.release(event);
    if (this.watchedSector >= 0) this.#watch();
  }

  /** Tells when a disk's idea of the watched sector changes. */
  #watch(): void {
    const seen = describeSector(this.legs, this.watchedSector);
    if (seen !== this.#lastSeen) this.note(`sector ${this.watchedSector} ${seen}`);
    this.#lastSeen = seen;
  }

  /** What concerns a stopped process happens when it goes on. */
  #defer(event: SimEvent): boolean {
    let process: Process;
    if (event.kind === EventKind.FRAME || event.kind === EventKind.PLACE) {
      process = (event.target as Connection).ends[(event.data as Frame).toSide].process;
    } else if (event.kind === EventKind.CLOSED_BY_PEER) process = (event.target as Connection).ends[event.a].process;
    else if (event.kind === EventKind.CONNECT_ARRIVES) process = event.data as Process;
    else if (event.kind < EventKind.START) process = event.target as Process;
    else return false;
    if (process.pausedUntilMs <= this.nowMs || !process.alive) return false;
    // A pause may be prolonged: what was put off before must not fall behind what is put off now.
    this.heap.defer(event, process.pausedUntilMs);
    return true;
  }

  #dispatch(event: SimEvent): void {
    switch (event.kind) {
      case EventKind.FRAME:
        this.network.deliver(event.target as Connection, event.data as Frame);
        return;
      case EventKind.PLACE:
        this.network.place(event.target as Connection, event.data as Frame);
        return;
      case EventKind.CONNECT_ARRIVES:
        this.network.arrive(event.target as Process, event.life, event.data as Process, event.a);
        return;
      case EventKind.CONNECTED:
        this.network.established(event.data as Connection, event.a);
        return;
      case EventKind.CLOSED_BY_PEER:
        this.network.closedByPeer(event.target as Connection, event.a);
        return;
      case EventKind.FAULT:
        this.#fault(event.a === 1);
        return;
      case EventKind.CALM:
        this.#calmDown();
        return;
      case EventKind.INSPECT:
        this.#inspect();
        return;
      case EventKind.START:
        this.#start(event.target as Process, event.life, event.a);
        return;
    }
    const process = event.target as Process;
    if (process.life !== event.life || !process.alive) return;
    switch (event.kind) {
      case EventKind.DISK_DONE:
        (process as LegProcess).onDiskDone(event.data as DiskOperation);
        return;
      case EventKind.ALARM:
        process.onAlarm(event.a);
        return;
      case EventKind.DRAIN:
        process.drainNow();
        return;
      case EventKind.APPLICATION:
        (process as ClientProcess).onApplication();
        return;
      case EventKind.CONNECT_FAILED:
        process.onConnectFailed(event.a);
        return;
      case EventKind.CLOSED:
        process.onClosed(event.a);
        return;
    }
  }

  // ---- life and death -------------------------------------------------------------------------------------------------

  /** A dead process will start again. */
  scheduleStart(process: Process, afterMs: number, takeover = false): void {
    this.heap.push(this.nowMs + afterMs, EventKind.START, process, process.life).a = takeover ? 1 : 0;
  }

  #start(process: Process, life: number, how: number): void {
    if (process.alive || process.life !== life) return;
    if (process instanceof ReaderProcess) {
      if (this.faulty) process.start(false);
    } else if (process instanceof ClientProcess) {
      const { takeover, force } = this.forced.orderOf(how);
      if (process === this.client && !this.#isClientless) process.start(takeover, force);
    } else (process as LegProcess).start();
  }

  /** Someone wants to reach "leg-2:1": that leg by its first path. */
  connect(from: Process, address: string, tag: number): void {
    const [, index, path] = /^leg-(\d+):(\d)$/.exec(address) ?? [];
    const leg = this.legs[Number(index ?? -1)];
    if (leg === undefined) throw new Violation("assertion", `a core wants to connect to ${address}`);
    this.network.connect(from, leg, tag, Number(path) - 1);
  }

  /** The other client takes the pool over. The one that has it may go on for a while, not knowing. */
  takeOver(): void {
    const former = this.client;
    const next = this.clients.find((each) => each !== former)!;
    if (next.alive) next.kill(false);
    // It must not begin a history of its own behind the other's back.
    if (former.isForcing) former.kill(false);
    this.client = next;
    next.start(true);
  }

  /** A core tells something. In-sync legs are equal wherever no write is under way, so a verify finds no difference here. */
  onEvent(who: string, event: CoreEvent): void {
    this.forced.heard(event);
    if (event.name !== "verify-difference" || this.stage === "scenario" || event.message.includes("cannot be read")) {
      return;
    }
    throw new Violation("verify", `${who}: ${event.message}`);
  }

  #scheduleFault(): void {
    this.heap.push(this.nowMs + exponential(this.prng, this.plan.faultMeanMs), EventKind.FAULT, this, 0);
  }

  #fault(isSwap: boolean): void {
    if (this.stage !== "load") return;
    if (isSwap) return this.forced.swap();
    strike(this, this.plan.faults[under(this.prng, this.plan.faults.length)]);
    this.#scheduleFault();
  }

  // ---- stages ---------------------------------------------------------------------------------------------------------

  /** Whether the application has something to submit. */
  wantsTurn(client: ClientProcess): boolean {
    if (this.stage === "verify") return client === this.client && client.inFlight.size === 0;
    return this.stage === "load" && this.application.begun < this.plan.requestCount &&
      client.inFlight.size < this.plan.queueDepth;
  }

  /** The application may submit. */
  applicationTurn(client: ClientProcess): void {
    const application = this.application;
    if (this.stage === "load") {
      let burst = 1 + under(this.prng, this.plan.queueDepth);
      while (
        burst-- > 0 && application.begun < this.plan.requestCount && client.inFlight.size < this.plan.queueDepth &&
        client.canSubmit
      ) client.submit(application.draw(client));
      this.onRequestDone();
    } else if (this.stage === "verify" && this.client.canSubmit && application.inFlight.size === 0) this.#verify();
  }

  /** The load may be over; not at once, for a client may be in the midst of completing requests. */
  onRequestDone(): void {
    const application = this.application;
    if (this.stage !== "load" || application.begun < this.plan.requestCount || application.inFlight.size > 0) return;
    this.heap.push(this.nowMs, EventKind.CALM, this, 0);
  }

  #calmDown(): void {
    if (this.stage !== "load") return;
    this.stage = "calm";
    this.#calmSinceMs = this.nowMs;
    this.note("faults end");
    this.network.heal();
    for (const client of [...this.clients, ...this.readers]) if (client !== this.client) client.kill(false);
    if (this.plan.clientless) {
      this.#isClientless = true;
      this.client.kill(part(this.prng) < 0.5);
    }
    endStrangeFaults(this);
    for (const process of this.processes) {
      process.slowness = 1;
      const isNeeded = (process === this.client && !this.#isClientless) || !(process instanceof ClientProcess);
      if (!process.alive && isNeeded) this.scheduleStart(process, part(this.prng) * 1000, true);
    }
    for (const leg of this.legs) {
      if (!leg.alive) continue;
      leg.core!.setResync({ paused: false, rateBytesPerSecond: 0 });
      leg.drainNow();
    }
    for (const leg of this.legs) leg.disk.badSectors.clear();
    this.heap.push(this.nowMs + INSPECT_MS, EventKind.INSPECT, this, 0);
  }

  /** What keeps the pool from being whole; "" when nothing does. */
  unwholeness(): string {
    if (this.legs.some(({ disk }) => disk.hangs(this.nowMs))) return "a disk hangs";
    if (this.#isClientless) {
      return this.table.finish() || legsUnwholeness(this, true, maskOf(this.table.newest(false)!)) || heldSlots(this);
    }
    const core = this.client.core;
    if (core === null) return "the client is not up";
    if (core.state !== "ready") return `the client is ${core.state}: ${core.refusal || this.#lastRefusal}`;
    const reason = tableUnwholeness(this, core.snapshot());
    if (reason !== "") return reason;
    if (this.application.inFlight.size > 0) return `${this.application.inFlight.size} requests are in flight`;
    return "";
  }

  #inspect(): void {
    this.forced.help();
    if (this.stage === "rest") this.#endWhenAtRest();
    if (this.stage === "verify" || this.stage === "calm") {
      const reason = this.unwholeness();
      if (this.#isClientless && reason === "") this.#endClientless();
      else if (this.stage === "calm" && reason === "") {
        this.stage = "verify";
        this.note("the pool is whole");
      } else if (this.nowMs - this.#calmSinceMs > CALM_LIMIT_MS) {
        throw new Violation(
          "converges",
          `${CALM_LIMIT_MS / 1000} s after the last fault, in stage ${this.stage}: ${
            reason || "verification does not end"
          }; ` +
            `refused ${this.#refusals} times`,
        );
      }
    }
    this.heap.push(this.nowMs + INSPECT_MS, EventKind.INSPECT, this, 0);
    if (this.stage === "verify" && this.client.alive) {
      this.client.onApplication();
    }
  }

  /** The legs have become whole by themselves. Now a client must get the pool, without taking it from anybody. */
  #endClientless(): void {
    this.note("the legs are whole without a client");
    this.compareDisks();
    this.#isClientless = false;
    this.client.start(false);
  }

  /** A read-only client may have a request under way, which a connection that was cut brought late: for a while that is no leak. */
  #endWhenAtRest(): void {
    const held = heldSlots(this);
    if (held === "") this.stage = "end";
    else if (this.nowMs - this.#restSinceMs > REST_LIMIT_MS) throw new Violation("slots", held);
  }

  #verify(): void {
    if (this.#finalCheck.advance() || this.unwholeness() !== "") return; // a leg may have been dropped for a silence from before
    this.client.detach();
  }

  /** The client has detached. `clean`: with the legs' consent. */
  onDetached(client: ClientProcess, clean: boolean): void {
    if (client !== this.client) {
      client.kill(false);
      return;
    }
    const { size } = this.application.inFlight;
    if (size > 0) throw new Violation("exactly-once", `the client detached with ${size} requests in flight`);
    this.note(`the client has detached${clean ? "" : ", uncleanly"}`);
    // Everything acked is on stable storage now.
    if (clean) this.oracle.ackFlush(this.oracle.tick());
    else if (this.stage === "verify") throw new Violation("converges", "the client could not detach cleanly");
    // What was arriving on a connection when it was closed is given back when the driver hears of that.
    const leaked = this.slots.usedBy(this.client.id).filter(({ sends }) => sends === 0).length;
    if (leaked > 0) throw new Violation("slots", `the client detached with ${leaked} slots in use`);
    if (this.stage === "verify") {
      if (client.core!.snapshot().inSyncMask === this.table.clientMask) {
        expectIdentical(this);
        this.#restSinceMs = this.nowMs;
        this.stage = "rest";
        this.#endWhenAtRest();
        return;
      }
      // A leg was dropped at the last moment, e.g. for a disk operation from the time of faults: once more.
      this.stage = "calm";
      client.leave();
      this.scheduleStart(client, 100, true);
    } else {
      this.client.leave();
      if (this.stage !== "scenario") this.scheduleStart(this.client, exponential(this.prng, this.plan.downMeanMs));
    }
  }

  /** The client was refused the pool and gives up; someone will try again. */
  onRefused(client: ClientProcess): void {
    if (client !== this.client) {
      this.note(`${client.name} has lost the pool: ${client.core!.refusal}`);
      client.kill(false);
      return;
    }
    // A leg whose disk was slow may only now have recorded the claim of a client that died: it is held until that one's silence is noticed.
    const isHeld = this.client.core!.refusalCode === "held";
    if (this.stage === "calm" && this.plan.clientless && !isHeld) {
      throw new Violation("converges", `the legs were whole, but the client is refused: ${client.core!.refusal}`);
    }
    this.#refusals++;
    this.#lastRefusal = this.client.core!.refusal;
    if (this.stage === "scenario") return;
    this.note(`the client is refused: ${this.#lastRefusal}`);
    this.client.kill(false);
    if (this.forced.answers(this.#lastRefusal)) return;
    this.scheduleStart(this.client, 200 + part(this.prng) * 2000, part(this.prng) < 0.7);
  }

  /** Every leg holds the same, on stable storage, and no memory is held. */
  compareDisks(): void {
    expectIdentical(this);
    const held = heldSlots(this);
    if (held !== "") throw new Violation("slots", held);
  }
}
