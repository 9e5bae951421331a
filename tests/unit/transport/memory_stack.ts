/**
 * Machines with RDMA in memory, below `VerbsNetwork`: what the connection manager and devices tell, over links as
 * `memory_links.ts` has them. As strict as the libraries: an id is not used once it is closed, nor a device once it was
 * removed and its last id is closed, for librdmacm frees it then.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { HeldMemory } from "../../../ffi/libc/held_memory.ts";
import type { CmEvent } from "../../../ffi/rdmacm/event_channel.ts";
import { CmEventType } from "../../../ffi/rdmacm/layout.ts";
import { VERBS_LAYOUT } from "../../../ffi/verbs/layout.ts";
import { RdmaUnavailable } from "../../../ffi/verbs/library.ts";
import { formatSocketAddress, parseSocketAddress } from "../../../lib/io/socket_address.ts";
import type { Landing } from "../../../lib/transport/rdma/landing_memory.ts";
import type {
  ConnectionId,
  DeviceInUse,
  LinkHost,
  OpenedDevice,
  RdmaStack,
  SendMemory,
  StackLink,
} from "../../../lib/transport/rdma/rdma_stack.ts";
import { MemoryFabric, MemoryLink } from "./memory_links.ts";
import { MemoryReactor, POLLERR, POLLIN } from "./memory_reactor.ts";

const ENODEV = 19;
const EADDRINUSE = 98;
const NO_DATA = new Uint8Array(0);
/** The connection manager pads what an end gives along. */
const PADDING_BYTES = 24;
/** Far more time than anything takes, so that only what never happens reaches it. */
const LIMIT_MS = 3_600_000;

/** Everything there is in a test. */
export class MemoryWorld {
  readonly clock = { nowMs: 1 };
  readonly fabric = new MemoryFabric();
  readonly machines: MemoryMachine[] = [];
  #nextNumber = 1;

  machine(): MemoryMachine {
    const machine = new MemoryMachine(this, `10.0.0.${this.machines.length + 1}`);
    this.machines.push(machine);
    return machine;
  }

  /** Never the same twice: addresses of structures, and ports. */
  takeNumber(): number {
    return this.#nextNumber++;
  }

  listenerAt(address: string): MemoryId | null {
    for (const { ids } of this.machines) {
      for (const id of ids.values()) if (id.isListening && id.localText === address && !id.device!.isGone) return id;
    }
    return null;
  }

  /** Moves something; where nothing does, time passes until a delay is over. False when nothing ever will. */
  step(): boolean {
    let moved = this.fabric.step();
    for (const { reactor, afterTurn } of this.machines) {
      if (!reactor.turn()) continue;
      afterTurn();
      moved = true;
    }
    if (moved) return true;
    const nextMs = Math.min(...this.machines.map(({ reactor }) => reactor.nextMs));
    if (nextMs > LIMIT_MS) return false;
    this.clock.nowMs = Math.max(this.clock.nowMs, nextMs);
    return true;
  }
}

/** The RDMA of one machine, with one device at most. */
export class MemoryMachine implements RdmaStack {
  readonly world: MemoryWorld;
  readonly host: string;
  readonly reactor: MemoryReactor;
  readonly ids = new Map<number, MemoryId>();
  readonly events: RdmaStack["events"];
  device: MemoryDevice | null;
  /** What its worker does after each turn. */
  afterTurn: () => void = () => {};
  readonly #happened: CmEvent[] = [];

  constructor(world: MemoryWorld, host: string) {
    this.world = world;
    this.host = host;
    const reactor = this.reactor = new MemoryReactor(world.clock);
    const descriptor = reactor.open(() => this.#happened.length > 0 ? POLLIN : 0);
    this.events = {
      descriptor,
      takeEvent: () => this.#takeEvent(),
      close: () => {
        assert.equal(this.ids.size, 0, "The channel is closed after its ids");
        reactor.close(descriptor);
      },
    };
    this.device = new MemoryDevice(this);
  }

  createId(): MemoryId {
    const id = new MemoryId(this);
    this.ids.set(id.address, id);
    return id;
  }

  idAt(address: number): MemoryId {
    return this.ids.get(address)!;
  }

  openDevice(address: number): OpenedDevice {
    if (this.device?.address !== address) throw new RdmaUnavailable("failed", "the device is gone");
    return this.device.open();
  }

  makeLink(id: MemoryId, device: DeviceInUse, memory: SendMemory, landing: Landing, host: LinkHost): MemoryStackLink {
    return new MemoryStackLink(id, device, memory, landing, host);
  }

  tell(id: MemoryId, type: number, more: Partial<CmEvent> = {}): void {
    if (id.isClosed) return;
    this.#happened.push({ id: id.address, listenId: 0, status: 0, privateData: NO_DATA, ...more, type });
  }

  /** What happened to ids that were closed meanwhile is not told. */
  #takeEvent(): CmEvent | null {
    for (let event = this.#happened.shift(); event !== undefined; event = this.#happened.shift()) {
      if (this.ids.has(event.listenId || event.id)) return event;
      this.ids.get(event.id)?.close();
    }
    return null;
  }
}

/** A device. */
export class MemoryDevice {
  readonly machine: MemoryMachine;
  readonly name: string;
  /** Of its context. */
  readonly address: number;
  readonly links: MemoryStackLink[] = [];
  /** It was removed. */
  isGone = false;
  /** Nothing can be read from its descriptors any more. */
  isShut = false;
  openChannelCount = 0;
  readonly #eventDescriptor: number;
  readonly #happened: number[] = [];
  #isFreed = false;

  /** @param address that another one has left */
  constructor(machine: MemoryMachine, address = machine.world.takeNumber()) {
    this.machine = machine;
    this.address = address;
    this.name = `mem${machine.world.takeNumber()}`;
    this.#eventDescriptor = machine.reactor.open(() => this.#happened.length > 0 ? POLLIN : this.isShut ? POLLERR : 0);
  }

  open(): OpenedDevice {
    const { reactor } = this.machine;
    const ready: number[] = [];
    const descriptor = reactor.open(() => ready.length > 0 ? POLLIN : this.isShut ? POLLERR : 0);
    this.openChannelCount++;
    const channel: MemoryChannel = {
      descriptor,
      takeEvent: () => ready.shift() ?? 0,
      tell: (queueAddress) => {
        assert.ok(!this.isGone, "A device that is gone tells of no completions");
        ready.push(queueAddress);
      },
      close: () => {
        assert.ok(!this.#isFreed, "A channel is closed while there is its device");
        this.openChannelCount--;
        reactor.close(descriptor);
        return 0;
      },
    };
    const takeEvent = () => {
      assert.ok(!this.#isFreed, "Nothing is asked of a device that was freed");
      return this.#happened.shift() ?? -1;
    };
    return { context: { name: this.name, takeEvent }, channel, eventDescriptor: this.#eventDescriptor };
  }

  /** Something of IBV_EVENT_*. */
  tell(type: number): void {
    this.#happened.push(type);
  }

  /** It fails, and says so. */
  fail(): void {
    for (const link of this.links) link.isDead = true;
    this.tell(VERBS_LAYOUT.IBV_EVENT_DEVICE_FATAL);
  }

  /** It is removed; the connection manager tells of that. */
  remove(): void {
    this.isGone = true;
    this.machine.device = null;
    for (const link of this.links) link.isDead = true;
    for (const id of this.machine.ids.values()) {
      if (id.device === this) this.machine.tell(id, CmEventType.DEVICE_REMOVAL);
    }
  }

  /** The library finds out that the device is gone later than the device itself has told of it. */
  idClosed(): void {
    if (
      !this.isGone || this.#happened.length > 0 || [...this.machine.ids.values()].some(({ device }) => device === this)
    ) return;
    this.#isFreed = true;
    this.machine.reactor.close(this.#eventDescriptor);
  }
}

interface MemoryChannel {
  readonly descriptor: number;
  takeEvent(): number;
  tell(queueAddress: number): void;
  close(): number;
}

/** An id of the connection manager. */
export class MemoryId implements ConnectionId {
  readonly machine: MemoryMachine;
  readonly address: number;
  device: MemoryDevice | null = null;
  localText = "";
  peerText = "";
  isListening = false;
  isClosed = false;
  link: MemoryStackLink | null = null;
  peer: MemoryId | null = null;
  #isConnected = false;

  constructor(machine: MemoryMachine) {
    this.machine = machine;
    this.address = machine.world.takeNumber();
  }

  get context(): number {
    return this.#open().device?.address ?? 0;
  }
  get port(): number {
    return Number(this.#open().localText.split(":")[1]);
  }
  get peerAddress(): Uint8Array<ArrayBuffer> {
    return parseSocketAddress(this.#open().peerText).bytes;
  }
  allowReuse(): number {
    return 0;
  }
  setAckTimeout(): number {
    return 0;
  }
  bind(socketAddress: Uint8Array<ArrayBuffer>): number {
    const { machine } = this.#open();
    const text = formatSocketAddress(socketAddress).replace(/:0$/, () => `:${machine.world.takeNumber()}`);
    if (machine.device === null || !text.startsWith(`${machine.host}:`)) return -ENODEV;
    for (const { isListening, localText } of machine.ids.values()) {
      if (isListening && localText === text) return -EADDRINUSE;
    }
    this.device = machine.device;
    this.localText = text;
    return 0;
  }
  listen(): number {
    this.#open().isListening = true;
    return 0;
  }
  resolveAddress(socketAddress: Uint8Array<ArrayBuffer>): number {
    const { machine } = this.#open();
    if (machine.device === null) return -ENODEV;
    this.device = machine.device;
    this.localText = `${machine.host}:${machine.world.takeNumber()}`;
    this.peerText = formatSocketAddress(socketAddress);
    machine.tell(this, CmEventType.ADDR_RESOLVED);
    return 0;
  }
  resolveRoute(): number {
    this.#open().machine.tell(this, CmEventType.ROUTE_RESOLVED);
    return 0;
  }
  connect(given: HeldMemory): number {
    const { machine } = this.#open();
    const listener = machine.world.listenerAt(this.peerText);
    if (listener === null) machine.tell(this, CmEventType.REJECTED, { status: 8 });
    else {
      const far = listener.machine.createId();
      far.device = listener.device;
      far.localText = this.peerText;
      far.peerText = this.localText;
      far.peer = this;
      this.peer = far;
      const request = { listenId: listener.address, privateData: padded(given) };
      listener.machine.tell(far, CmEventType.CONNECT_REQUEST, request);
    }
    return 0;
  }
  accept(given: HeldMemory): number {
    const { machine, peer } = this.#open();
    if (peer!.isClosed || peer!.device!.isGone) machine.tell(this, CmEventType.CONNECT_ERROR, { status: -110 });
    else {
      machine.world.fabric.pair(peer!.link!, this.link!);
      this.#isConnected = peer!.#isConnected = true;
      machine.tell(this, CmEventType.ESTABLISHED);
      peer!.machine.tell(peer!, CmEventType.ESTABLISHED, { privateData: padded(given) });
    }
    return 0;
  }
  reject(): number {
    const { peer } = this.#open();
    peer!.machine.tell(peer!, CmEventType.REJECTED, { status: 28 });
    return 0;
  }
  /** Both ends hear of it, unless a device is gone: its peer hears nothing. */
  disconnect(): void {
    if (!this.#isConnected) return;
    this.#isConnected = false;
    for (const id of [this, this.peer!]) {
      if (!this.device!.isGone && !id.device!.isGone) id.machine.tell(id, CmEventType.DISCONNECTED);
    }
  }
  close(): number {
    this.disconnect();
    this.#open().isClosed = true;
    this.machine.ids.delete(this.address);
    this.device?.idClosed();
    return 0;
  }

  #open(): this {
    assert.ok(!this.isClosed, "An id is not used once it is closed");
    return this;
  }
}

function padded(given: HeldMemory): Uint8Array {
  const bytes = new Uint8Array(given.bytes.length + PADDING_BYTES);
  bytes.set(given.bytes);
  return bytes;
}

/** A link, with the id that it belongs to. */
export class MemoryStackLink extends MemoryLink implements StackLink {
  readonly queueAddress: number;
  isArmed = false;
  readonly #id: MemoryId;
  readonly #device: DeviceInUse;
  readonly #landing: Landing;
  readonly #host: LinkHost;
  #armedFor = 0;
  #released = () => {};
  #isGone = false;

  constructor(id: MemoryId, device: DeviceInUse, memory: SendMemory, landing: Landing, host: LinkHost) {
    const { world } = id.machine;
    const queueAddress = world.takeNumber();
    const bytes = new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(
      Deno.UnsafePointer.create(BigInt(memory.baseAddress))!,
      memory.totalBytes,
    ));
    super(world.fabric, {
      landing,
      memory: (address, lengthBytes) => bytes.subarray(address - memory.baseAddress).subarray(0, lengthBytes),
      wake: () => (device.channel as MemoryChannel).tell(queueAddress),
    });
    this.queueAddress = queueAddress;
    this.#id = id;
    this.#device = device;
    this.#landing = landing;
    this.#host = host;
    id.link = this;
    id.device!.links.push(this);
  }

  begin(): void {}

  override poll(): number {
    assert.ok(!this.#isGone, "Nothing is asked of a completion queue that is destroyed");
    return super.poll();
  }

  override arm(everything: boolean): boolean {
    const wanted = everything ? 2 : 1;
    if (this.#armedFor >= wanted) return false;
    this.#armedFor = wanted;
    this.isArmed = true;
    super.arm(everything);
    return true;
  }

  disarmed(): void {
    this.#armedFor = 0;
    this.isArmed = false;
  }

  override stop(): void {
    super.stop();
    this.#id.disconnect();
  }

  override close(): void {
    if (this.isClosed) return;
    this.stop();
    this.isClosed = true;
    this.#letGo();
  }

  override abandon(released: () => void): void {
    if (this.isClosed) return;
    this.stop();
    this.isClosed = true;
    this.#released = released;
    this.#host.ending(this);
  }

  progressEnd(): boolean {
    if (this.#id.machine.world.fabric.isHeldUp) return false;
    this.#letGo();
    this.#released();
    return true;
  }

  #letGo(): void {
    this.#isGone = true;
    this.#device.drainEvents();
    if (this.isDead) this.#landing.mayStillBeReached();
    this.#id.close();
    this.#host.closed();
  }
}
