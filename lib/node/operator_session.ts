/**
 * What an operator asks of a pool that nobody has attached: changes of the leg table, a verify. The storage node of any leg carries them out
 * by a client core that serves no application (a caretaker with orders): it claims the pool as any client does, gives way to any client,
 * and lets go when those who began it have ended it or have not been heard of for a while.
 *
 * One session a leg at most; several operators share it, so that what they ask for is ordered by one core. What a session that dies has left
 * half done is on record, and is finished by whoever has the pool next.
 *
 * @module
 */

import type { ClientOperations } from "../control/control_api.ts";
import { ControlError } from "../control/control_api.ts";
import { poolOfLeg } from "../core/caretaker.ts";
import { ClientPool } from "../core/client_pool.ts";
import { type CoreEvent, type Output, OutputKind } from "../core/output.ts";
import type { Message } from "../wire/message.ts";
import { encodeBody } from "../wire/body_codec.ts";
import { unreachable } from "../base/assert.ts";
import type { LegServer } from "../core/leg_server.ts";
import type { BufferPool } from "../io/buffer_pool.ts";
import type { Transport } from "../transport/transport.ts";
import type { PlainError } from "./worker_messages.ts";
import { VerifyWatch } from "./verify_watch.ts";

/** Who has not asked for anything for so long is gone. Making a leg on a slow disk comes between two questions. */
const HOLDER_LIMIT_MS = 60_000;
/** Requests that the core has in flight: a verify's. */
const MAX_REQUESTS = 16;

/** What a session needs of its node. */
export interface OperatorHost {
  readonly nowMs: number;
  readonly pool: BufferPool;
  readonly transport: Transport;
  /** A slot, or -1: memory is short. */
  allocateForRead(lengthBytes: number): number;
  freeSlot(slot: number): void;
  /** Something was queued on the transport. */
  noteSent(): void;
  closeConnection(key: number): void;
  /** The transport's number of a connection, -1 when it is gone. */
  connectionOf(key: number): number;
}

/** What a session is made of. */
export interface OperatorSessionOptions {
  readonly leg: LegServer;
  readonly host: OperatorHost;
  /** For people: who has the pool. */
  readonly name: string;
  readonly connect: (legIndex: number, address: string) => void;
  readonly report: (event: CoreEvent) => void;
  readonly answer: AnswerOperator;
}

/** Gives the operator whose request it was an answer. */
export type AnswerOperator = (requestId: number, result: unknown, error?: PlainError) => void;

/** See the module comment. */
export class OperatorSession {
  readonly core: ClientPool;
  readonly #verifyWatch = new VerifyWatch();
  readonly #options: OperatorSessionOptions;
  readonly #host: OperatorHost;
  readonly #answer: AnswerOperator;
  /** When each of those who began it last asked for something. */
  readonly #holders = new Map<number, number>();
  #lastHolder = 0;
  /** Requests for a beginning, and for changes, that have no answer yet. */
  readonly #beginning = new Map<number, number>();
  readonly #changes = new Set<number>();
  /** Requests to let go that are answered when it has. */
  readonly #leaving: number[] = [];

  constructor(options: OperatorSessionOptions) {
    const { leg, host, name, answer } = options;
    this.#options = options;
    this.#host = host;
    this.#answer = answer;
    this.core = new ClientPool({
      ...poolOfLeg(leg),
      isCaretaker: true,
      isOrdered: true,
      clientUuid: crypto.randomUUID(),
      clientName: name,
      maxRequests: MAX_REQUESTS,
      nowMs: host.nowMs,
      wallMs: Date.now(),
      nextRandom: Math.random,
    });
    this.core.start({ takeover: false });
  }

  /** Whether it is over, and everybody has been told. */
  get isOver(): boolean {
    return (this.core.state === "detached" || this.core.state === "refused") && !this.core.hasOutputs;
  }

  /** Requests to begin that came while it was letting go: they are for the next session. */
  get waiting(): number[] {
    return [...this.#beginning.keys()];
  }

  /** An operator begins it, or joins it. Answered with the operator's number once the pool is had, or cannot be. */
  begin(requestId: number): void {
    const holder = ++this.#lastHolder;
    this.#holders.set(holder, this.#host.nowMs);
    this.#beginning.set(requestId, holder);
    this.#settle();
  }

  /**
   * An operation of lib/control/control_api.ts, checked.
   * @throws {ControlError} it cannot be
   */
  // deno-lint-ignore no-explicit-any -- the main isolate has validated the arguments of each operation
  ask(requestId: number, holder: number, op: keyof ClientOperations, request: any): void {
    if (!this.#holders.has(holder)) throw new ControlError("refused", OVER_TEXT);
    this.#holders.set(holder, this.#host.nowMs);
    switch (op) {
      case "client.status":
        this.#answer(requestId, this.core.snapshot());
        break;
      case "client.changeLegs":
        this.#changes.add(requestId);
        this.core.changeLegs(request, requestId);
        break;
      case "client.verify": {
        const problem = this.#verifyWatch.start(this.core, request);
        if (problem !== "") throw new ControlError("refused", problem);
        this.#answer(requestId, {});
        break;
      }
      case "client.verifyStop":
        this.core.stopVerify();
        this.#answer(requestId, {});
        break;
      case "client.detach":
        // Answered when the pool is let go of, if nobody else holds on to it.
        this.#leaving.push(requestId);
        this.#release(holder);
        break;
    }
    this.#settle();
  }

  /**
   * The leg leaves service: who waits is told. What the core holds, such as the memory of a repair, it gives back when its connections have
   * ended, which are told of as before.
   */
  abandon(): void {
    this.#tellAll({ code: "refused", message: "The storage node is letting go of its leg; ask another one" });
    this.#holders.clear();
    this.core.detach();
    this.#settle();
  }

  tick(nowMs: number): void {
    for (const [holder, askedMs] of this.#holders) if (nowMs - askedMs > HOLDER_LIMIT_MS) this.#release(holder);
    this.core.handleTick(nowMs);
    this.#settle();
  }

  get nextDeadlineMs(): number {
    return this.core.nextDeadlineMs;
  }

  connected(legIndex: number, connection: number): void {
    this.core.handleConnected(legIndex, connection);
    this.#settle();
  }

  connectFailed(legIndex: number): void {
    this.core.handleConnectFailed(legIndex);
    this.#settle();
  }

  connectionClosed(connection: number): void {
    this.core.handleConnectionClosed(connection);
    this.#settle();
  }

  /** A frame from a leg. `data`: its payload, if it is the answer to a read; it is copied to where it belongs. */
  message(connection: number, message: Message, data: Uint8Array, body: unknown): void {
    if (data.length > 0) {
      const slot = this.core.slotFor(connection, message);
      if (slot >= 0) this.#host.pool.bytes(slot).set(data);
    }
    this.core.handleMessage(connection, message, -1, body);
    this.#settle();
  }

  #release(holder: number): void {
    this.#holders.delete(holder);
    if (this.#holders.size === 0) this.core.detach();
    else this.#letGo();
  }

  #letGo(): void {
    for (const requestId of this.#leaving.splice(0)) this.#answer(requestId, {});
  }

  /** Carries out what the core wants, and tells what has come of it. */
  #settle(): void {
    for (let output = this.core.poll(); output !== null; output = this.core.poll()) this.#carryOut(output);
    const { state, refusal } = this.core;
    if (state === "ready") {
      for (const [requestId, holder] of this.#beginning) this.#answer(requestId, { holder });
      this.#beginning.clear();
    } else if (state === "refused") {
      this.#letGo();
      this.#tellAll({ code: "refused", message: refusal });
    } else if (state === "detached") {
      this.#letGo();
      this.#tellChanges({ code: "refused", message: OVER_TEXT });
    }
  }

  #tellAll(error: PlainError): void {
    for (const requestId of this.#beginning.keys()) this.#answer(requestId, null, error);
    this.#beginning.clear();
    this.#tellChanges(error);
  }

  #tellChanges(error: PlainError): void {
    for (const requestId of this.#changes) this.#answer(requestId, null, error);
    this.#changes.clear();
  }

  #carryOut(output: Output): void {
    const host = this.#host;
    switch (output.kind) {
      case OutputKind.SEND:
        this.#send(output);
        return;
      case OutputKind.CHANGE_DONE: {
        const problem = output.body as string;
        if (!this.#changes.delete(output.token)) return; // told before, when the session was abandoned
        if (problem === "") this.#answer(output.token, {});
        else this.#answer(output.token, null, { code: "refused", message: problem });
        return;
      }
      case OutputKind.WANT_SLOT:
        this.core.handleSlot(Math.max(-1, host.allocateForRead(output.lengthBytes)));
        return;
      case OutputKind.FREE_SLOT:
        host.freeSlot(output.slot);
        return;
      case OutputKind.CONNECT:
        this.#options.connect(output.legIndex, output.address);
        return;
      case OutputKind.CLOSE:
        host.closeConnection(output.connection);
        return;
      case OutputKind.EVENT: {
        const event = output.body as CoreEvent;
        this.#options.report(event);
        const further = this.#verifyWatch.heard(this.core, event);
        if (further !== null) this.#options.report(further);
        return;
      }
      default:
        unreachable(`an operator's session wants output kind ${output.kind}`);
    }
  }

  /** The payload of a repair goes to each leg from a copy of its own, so the core's slot is free when the core says so. */
  #send(output: Output): void {
    const { transport, pool } = this.#host;
    const connection = this.#host.connectionOf(output.connection);
    if (connection === -1) return;
    this.#host.noteSent();
    if (output.body !== null) {
      transport.sendBytes(connection, output.message, encodeBody(output.message.type, output.body));
    } else if (output.slot < 0) transport.send(connection, output.message, -1, -1);
    else {
      const { payloadLength } = output.message;
      const copy = pool.allocate(payloadLength);
      if (copy < 0) {
        const message = "The memory of the node is full: a repair cannot be sent, and the operator's session ends";
        this.#options.report({ level: "error", name: "no-memory", message });
        transport.close(connection);
        return;
      }
      pool.bytes(copy).set(pool.bytes(output.slot).subarray(0, payloadLength));
      if (!transport.send(connection, output.message, copy, copy)) this.#host.freeSlot(copy);
    }
  }
}

const OVER_TEXT = "The operator's session is over; repeat the command";
