/**
 * A simulated client node: the production `ClientPool` under the application, driven the way lib/node drives it.
 *
 * @module
 */

import { ClientPool, type ClientPoolOptions, type PoolCore } from "../../lib/core/client_pool.ts";
import type { ForceOrder } from "../../lib/core/forced_start.ts";
import type { LegChange } from "../../lib/core/leg_table_changes.ts";
import { type CoreEvent, type Output, OutputKind } from "../../lib/core/output.ts";
import { MAX_LEGS } from "../../lib/disk_format/records.ts";
import { RequestKind } from "../../lib/frontend/frontend.ts";
import type { EpochChange } from "../../lib/wire/bodies.ts";
import { type Message, MessageType } from "../../lib/wire/message.ts";
import { type AppRequest, bytesOf } from "./application.ts";
import { expectClientBounds } from "./bounds.ts";
import { EventKind } from "./event_kind.ts";
import type { Frame } from "./network.ts";
import { Process } from "./process.ts";
import { GARBAGE } from "./sim_disk.ts";
import { SECTOR_BYTES, type Slot, SlotOwner } from "./slots.ts";
import { describeMessage, describeOutput } from "./trace.ts";
import { Violation } from "./violation.ts";
import type { World } from "./world.ts";

/** A completion that waits until the transport lets go of its slot. */
interface HeldCompletion {
  request: AppRequest;
  status: number;
}

/** A claim that was on its way when its client died is granted no later than this: a leg gives up a silent session. */
const CLAIM_OUTLIVES_MS = 15_000;

/** A client and its machine. */
export class ClientProcess extends Process {
  core: PoolCore | null = null;
  /** Whether it has the pool read-only. */
  readonly onlyReads: boolean = false;
  /** The application's requests that this client has not answered, by tag. */
  readonly inFlight = new Map<number, AppRequest>();
  /** The application above it, in traces. */
  readonly appName: string;
  /** By slot index: completions that wait for the transport. */
  readonly #held = new Map<number, HeldCompletion>();
  /** By connection: the slot that a payload is being received into. */
  readonly #placing = new Map<number, Slot>();
  /** Slots that the core has let go of while the transport still reads them. */
  readonly #released = new Set<Slot>();
  /** Changes of the leg table asked for, by token: "" when done, or why not. */
  readonly changes = new Map<number, string | null>();
  /** When it was killed last. */
  endedMs = -Infinity;
  /** The in-sync set of the last record that it sent, in force or not. */
  sentInSyncMask = 0;
  #lastToken = 0;
  #applicationPending = false;
  /** Its application begins nothing new for now. */
  isResting = false;
  /** A client whose application goes on when this one has written something. */
  wakes: ClientProcess | null = null;
  #wasReady = false;
  #hasSaidReady = false;
  /** How many clients had been started when this one was. */
  #startsAtStart = 0;
  /** How many clients had been started when this one last became ready, with no other since its own start; else -1. */
  #startsWhenReady = 0;
  /** Whether there is memory for what a verify repairs. */
  hasSlots = true;
  /** Serves no more requests: it is detaching. */
  detaching = false;
  /** The number of the latest history that it has served. */
  latestHistory = 0;
  /** Has an order to start by force, and has not served yet. */
  isForcing = false;
  /** Whether the pool was being served when it began to detach, and the last flush did not fail: only then can the end be a clean one. */
  #detachesCleanly = false;

  constructor(world: World, id: number, name: string) {
    super(world, id, name);
    this.appName = name === "client" ? "app" : `app of ${name}`;
    this.placesPayloads = true;
  }

  get nextDeadlineMs(): number {
    return this.core!.nextDeadlineMs;
  }

  start(takeover: boolean, force?: ForceOrder): void {
    const world = this.world;
    const shape = world.plan.shape;
    this.begin();
    this.#held.clear();
    this.#placing.clear();
    this.#released.clear();
    this.changes.clear();
    this.#applicationPending = false;
    this.isResting = false;
    this.wakes = null;
    this.#wasReady = false;
    this.#hasSaidReady = false;
    this.detaching = false;
    this.#startsWhenReady = 0;
    this.begins();
    this.#startsAtStart = world.counts.clientStarts;
    if (world.tracing) world.trace(this.name, `starts${takeover ? ", with takeover" : ""}`);
    this.core = this.makeCore({
      poolUuid: shape.poolUuid,
      poolName: "sim",
      clientUuid: world.newUuid(),
      clientName: this.sessionName,
      sizeBytes: shape.sizeBytes,
      logicalBlockBytes: 512,
      extentBytes: shape.extentBytes,
      hotExtentCount: shape.hotExtentCount,
      chunkBytes: shape.chunkBytes,
      legs: world.table.lookUp(),
      nowMs: this.clockMs,
      wallMs: this.wallMs,
      dialect: this.installed,
      nextRandom: () => world.prng.fraction(),
      ...world.plan.clientOptions,
      ...this.options,
    });
    world.network.processStarted(this);
    this.isForcing = force !== undefined;
    this.latestHistory = 0;
    this.core.start({ takeover, force });
    this.settle();
  }

  /** What is special about this client. */
  protected get options(): Partial<ClientPoolOptions> {
    return {};
  }

  /** It comes to have the pool: whoever had it is superseded. */
  protected begins(): void {
    this.world.counts.clientStarts++;
  }

  protected makeCore(options: ClientPoolOptions): PoolCore {
    return new ClientPool(options);
  }

  /** Asks for a change of the leg table. */
  changeLegs(change: LegChange): number {
    const token = ++this.#lastToken;
    this.changes.set(token, null);
    this.core!.changeLegs(change, token);
    this.settle();
    return token;
  }

  /** Begins a verify; returns why it cannot be, or "". */
  verify(repair: boolean, rateBytesPerSecond: number): string {
    const problem = this.core!.startVerify({ repair, rateBytesPerSecond });
    this.settle();
    return problem;
  }

  stopVerify(): void {
    this.core!.stopVerify();
    this.settle();
  }

  kill(power: boolean): void {
    const world = this.world;
    if (world.tracing) world.trace(this.name, power ? "loses power" : "is killed");
    if (!this.alive) return;
    this.end(power);
    this.endedMs = world.nowMs;
    this.core = null;
    this.#held.clear();
    world.application.abandonAll(this);
  }

  /** Ends by itself, after it has detached. */
  leave(): void {
    this.end(false);
    this.core = null;
  }

  checkInvariants(): void {
    this.core!.checkInvariants();
    expectClientBounds(this);
  }

  protected tick(nowMs: number): void {
    this.core!.handleTick(nowMs);
  }

  // ---- requests -----------------------------------------------------------------------------------------------------

  /** The name under which this life's sessions run. */
  get sessionName(): string {
    return `${this.name} life ${this.life}`;
  }

  /** Whether a request can be given to the core now. */
  get canSubmit(): boolean {
    return this.alive && !this.detaching && this.core!.canSubmit;
  }

  submit(request: AppRequest): void {
    const world = this.world;
    const hasPayload = request.kind === RequestKind.READ || request.kind === RequestKind.WRITE;
    let slotIndex = -1;
    if (hasPayload) {
      const slot = world.slots.allocate(this.id, bytesOf(request.sectorCount), SlotOwner.APPLICATION);
      request.slot = slot;
      slotIndex = slot.index;
      if (request.kind === RequestKind.WRITE) world.application.fill(request, slot);
      else slot.values.fill(GARBAGE, 0, request.sectorCount);
    }
    const lengthBytes = bytesOf(request.sectorCount);
    this.core!.submit(request.kind, request.flags, bytesOf(request.firstSector), lengthBytes, slotIndex, request.tag);
    this.settle();
  }

  /** Begins to detach: drains, flushes, and lets go of the legs. */
  detach(): void {
    this.detaching = true;
    this.#detachesCleanly = this.core!.state === "ready";
    this.core!.detach();
    this.settle();
  }

  // ---- network ----------------------------------------------------------------------------------------------------

  onAccepted(_connection: number): void {
    throw new Violation("assertion", "nobody connects to a client");
  }

  onConnected(tag: number, connection: number): void {
    this.core!.handleConnected(tag % MAX_LEGS, connection, Math.floor(tag / MAX_LEGS));
    this.settle();
  }

  onConnectFailed(tag: number): void {
    this.core!.handleConnectFailed(tag % MAX_LEGS, Math.floor(tag / MAX_LEGS));
    this.settle();
  }

  onClosed(connection: number): void {
    const placed = this.#placing.get(connection);
    this.#placing.delete(connection);
    this.core!.handleConnectionClosed(connection);
    // Before the outputs are carried out: the client may end by them, with nothing left in flight.
    if (placed !== undefined) this.#unuse(placed);
    this.settle();
  }

  placePayload(connection: number, message: Message): number {
    if (message.type !== MessageType.DATA) return -1;
    const index = this.core!.slotFor(connection, message);
    if (index < 0) return -1;
    const slot = this.world.slots.expect(index, this.id, SlotOwner.APPLICATION, "slotFor");
    slot.sends++;
    slot.values.fill(GARBAGE, 0, Math.ceil(message.payloadLength / SECTOR_BYTES));
    this.#placing.set(connection, slot);
    return index;
  }

  onFrame(connection: number, frame: Frame): void {
    const world = this.world;
    const message = frame.message;
    if (world.tracing) world.trace(this.name, `receives on ${connection}: ${describeMessage(message, frame.body)}`);
    if (frame.sectorCount === 0) {
      this.core!.handleMessage(connection, message, -1, frame.body);
      this.settle();
      return;
    }
    let placed: Slot | null = this.#placing.get(connection) ?? null;
    this.#placing.delete(connection);
    let own: Slot | null = null;
    if (placed === null) {
      const index = this.core!.slotFor(connection, message);
      if (index >= 0) {
        placed = world.slots.expect(index, this.id, SlotOwner.APPLICATION, "slotFor");
        placed.sends++;
      } else own = world.slots.allocate(this.id, frame.sectorCount * SECTOR_BYTES, SlotOwner.DRIVER);
    }
    const slot = placed ?? own!;
    for (let i = 0; i < frame.sectorCount; i++) slot.values[i] = frame.values[i];
    this.core!.handleMessage(connection, message, slot.index, frame.body);
    if (own !== null) world.slots.free(own);
    const life = this.life;
    this.settle();
    if (this.life === life && placed !== null) this.#unuse(placed);
  }

  override onSent(slot: Slot, _freeAfterSend: boolean): void {
    this.#completeHeld(slot);
  }

  #unuse(slot: Slot): void {
    slot.sends--;
    this.#completeHeld(slot);
  }

  #completeHeld(slot: Slot): void {
    if (slot.sends > 0) return;
    if (this.#released.delete(slot)) return this.world.slots.free(slot);
    const held = this.#held.get(slot.index);
    if (held === undefined) return;
    this.#held.delete(slot.index);
    this.#finish(held.request, held.status);
  }

  // ---- what the core wants ------------------------------------------------------------------------------------------

  protected carryOutAll(): void {
    const core = this.core!;
    for (let output = core.poll(); output !== null; output = core.poll()) this.#carryOut(output);
  }

  protected drain(): void {
    const core = this.core!;
    this.carryOutAll();
    const state = core.state;
    const isReady = state === "ready";
    // It may have served for no longer than a moment: what it sent in that was sent.
    const hasServed = isReady || this.#hasSaidReady;
    this.#hasSaidReady = false;
    if (hasServed && !this.#wasReady) {
      this.isForcing = false;
      const inSyncMask = isReady ? core.snapshot().inSyncMask : this.sentInSyncMask;
      const record = this.world.histories.ready(this, inSyncMask);
      if (record === null) return this.kill(false);
      this.world.losses.served(record, inSyncMask);
      // A leg that has not heard of the end of one may yet grant its claim.
      const { nowMs } = this.world;
      const mayBeHeard = (each: ClientProcess) => each.alive || nowMs - each.endedMs < CLAIM_OUTLIVES_MS;
      const hasRival = this.world.clients.some((each) => each !== this && mayBeHeard(each));
      // What makes it ready may have been said before another came and went.
      const { clientStarts } = this.world.counts;
      this.#startsWhenReady = hasRival || clientStarts !== this.#startsAtStart ? -1 : clientStarts;
    }
    this.#wasReady = isReady;
    this.follow(state);
  }

  /** What follows from where the pool stands. */
  protected follow(state: string): void {
    const core = this.core!;
    // A caretaker may have gone on in a history that was forced before; it is no client, but it overwrites what is older.
    const isLeft = core.refusalCode === "other-history" && this.world.histories.isElsewhere;
    if (state === "refused" && !isLeft && this.#startsWhenReady === this.world.counts.clientStarts) {
      throw new Violation("superseded", `no client came after it, but ${this.name} is refused: ${core.refusal}`);
    }
    if (state === "detached" && this.detaching) {
      this.world.onDetached(this, this.#detachesCleanly && core.snapshot().inSyncMask !== 0);
    } else if (state === "refused") this.world.onRefused(this);
    else this.maybeTakeTurn();
  }

  /** The application will have a turn, if it has something to do. */
  protected maybeTakeTurn(): void {
    const world = this.world;
    if (this.#applicationPending || this.isResting || !world.wantsTurn(this) || !this.canSubmit) return;
    this.#applicationPending = true;
    const atMs = world.nowMs + world.application.thinkMs();
    world.heap.push(atMs, EventKind.APPLICATION, this, this.life);
  }

  /** The application's turn has come. */
  onApplication(): void {
    this.#applicationPending = false;
    this.world.applicationTurn(this);
    if (this.alive) this.settle();
  }

  #carryOut(output: Output): void {
    const world = this.world;
    if (world.tracing) world.trace(this.name, describeOutput(output));
    switch (output.kind) {
      case OutputKind.SEND:
        this.#send(output);
        return;
      case OutputKind.CHANGE_DONE:
        this.changes.set(output.token, output.body as string);
        return;
      case OutputKind.WANT_SLOT: {
        if (!this.hasSlots) return this.core!.handleSlot(-1);
        const slot = world.slots.allocate(this.id, output.lengthBytes, SlotOwner.APPLICATION);
        slot.values.fill(GARBAGE, 0, output.lengthBytes / SECTOR_BYTES);
        this.core!.handleSlot(slot.index);
        return;
      }
      case OutputKind.FREE_SLOT: {
        const slot = world.slots.expect(output.slot, this.id, SlotOwner.APPLICATION, "FREE_SLOT");
        if (slot.sends > 0) this.#released.add(slot);
        else world.slots.free(slot);
        return;
      }
      case OutputKind.COMPLETE:
        this.#complete(output.tag, output.status);
        return;
      case OutputKind.CONNECT:
        world.connect(this, output.address, output.token * MAX_LEGS + output.legIndex);
        return;
      case OutputKind.GIVE_UP:
        return; // what becomes of it is told all the same
      case OutputKind.CLOSE:
        world.network.close(output.connection);
        return;
      case OutputKind.EVENT:
        if ((output.body as CoreEvent).name === "unclean-detach") this.#detachesCleanly = false;
        if ((output.body as CoreEvent).name === "ready") this.#hasSaidReady = true;
        world.onEvent(this.name, output.body as CoreEvent);
        return;
      default:
        throw new Violation("assertion", `a client wants output kind ${output.kind}`);
    }
  }

  #send(output: Output): void {
    const network = this.world.network;
    if (output.message.type === MessageType.EPOCH) {
      const { shared } = output.body as EpochChange;
      this.sentInSyncMask = shared.inSyncMask;
      this.world.losses.recordSent(shared);
    }
    if (output.slot < 0) {
      network.send(output.connection, output.message, null, output.body, false);
      return;
    }
    const slot = this.world.slots.expect(output.slot, this.id, SlotOwner.APPLICATION, "SEND");
    network.send(output.connection, output.message, slot, null, false);
  }

  #complete(tag: number, status: number): void {
    const request = this.world.application.judge(this, tag, status, () => this.core!.snapshot().inSyncMask);
    const slot = request.slot;
    if (slot !== null && slot.sends > 0) this.#held.set(slot.index, { request, status });
    else this.#finish(request, status);
  }

  #finish(request: AppRequest, status: number): void {
    const slot = request.slot;
    const isWritten = status === 0 && request.kind === RequestKind.WRITE;
    this.world.application.finish(this, request, status);
    if (slot !== null) this.world.slots.free(slot);
    if (isWritten && this.wakes !== null) this.#wake(this.wakes);
    this.world.onRequestDone();
  }

  #wake(other: ClientProcess): void {
    this.wakes = null;
    other.isResting = false;
    if (other.alive) other.maybeTakeTurn();
  }
}
