/**
 * The main isolate's end of its data-plane worker: starts it, asks it things, hears its reports, stops it.
 *
 * Stopping is cooperative. A worker blocked in a system call cannot be terminated; the process is ended with `Deno.exit`
 * by whoever owns it, after `stopped` has resolved.
 *
 * @module
 */

import { ControlError } from "../control/control_api.ts";
import { MailboxSender } from "../io/mailbox.ts";
import type { DataPlaneStart, MailboxMessage, PlainError, WorkerReport } from "./worker_messages.ts";

/** How long the worker may take for one operation before main gives up on it. */
const REQUEST_LIMIT_MS = 60_000;
/** Room for several control replies of the longest kind: 1 MiB. */
const MAILBOX_BYTES = 4 << 20;

interface Waiting {
  resolve(value: unknown): void;
  reject(reason: unknown): void;
  timer: ReturnType<typeof setTimeout>;
}

/** A start message less the mailbox, which is made here. */
// deno-lint-ignore no-explicit-any -- distributes over the union
type WithoutMailbox<T> = T extends any ? Omit<T, "mailbox"> : never;

/** A running worker. */
export class WorkerPort {
  /** Resolves when the loop has ended in an orderly way; rejects when it died. */
  readonly finished: Promise<void>;
  readonly #mailbox: MailboxSender;
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  /** Sends the start message. A worker loses what comes before it has a listener, so it is sent when it says it has. */
  readonly #start: () => void;
  #nextId = 1;
  /** Why nothing is asked any more: what the worker died of, or that it was told to stop. Null while it runs. */
  #over: Error | null = null;
  #resolveFinished!: () => void;
  #rejectFinished!: (reason: unknown) => void;

  constructor(
    workerUrl: string | URL,
    start: WithoutMailbox<DataPlaneStart>,
    onReport: (report: WorkerReport) => void,
  ) {
    this.finished = new Promise((resolve, reject) => {
      this.#resolveFinished = resolve;
      this.#rejectFinished = reject;
    });
    this.finished.catch(() => undefined); // whoever awaits it is told; nobody awaiting it yet is no second error
    this.#mailbox = new MailboxSender(MAILBOX_BYTES);
    this.#worker = new Worker(workerUrl, { type: "module", name: `brmr-${start.role}` });
    this.#worker.onmessage = (event: MessageEvent<WorkerReport>) => this.#onReport(event.data, onReport);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#end(new ControlError("internal", `The data plane failed to start: ${event.message}`));
    };
    this.#start = () => this.#worker.postMessage({ ...start, mailbox: this.#mailbox.port });
  }

  #onReport(report: WorkerReport, onReport: (report: WorkerReport) => void): void {
    switch (report.kind) {
      case "loaded":
        this.#start();
        return;
      case "response": {
        const waiting = this.#waiting.get(report.id);
        if (waiting === undefined) return;
        this.#waiting.delete(report.id);
        clearTimeout(waiting.timer);
        if (report.error !== undefined) waiting.reject(new ControlError(report.error.code, report.error.message));
        else waiting.resolve(report.result);
        return;
      }
      case "stopped":
        this.#end(null);
        return;
      case "fatal": {
        this.#end(fatalError(report.message, report.stack, report.error));
        return;
      }
      default:
        onReport(report);
    }
  }

  #end(error: Error | null): void {
    if (this.#over !== null) return;
    this.#over = error ?? new ControlError("refused", "The node is stopping");
    for (const waiting of this.#waiting.values()) {
      clearTimeout(waiting.timer);
      waiting.reject(this.#over);
    }
    this.#waiting.clear();
    if (error === null) this.#resolveFinished();
    else this.#rejectFinished(error);
  }

  /** Sends without an answer. Rejects with `MailboxFull` when the message is too long or the worker is stuck. */
  async post(message: MailboxMessage): Promise<void> {
    if (this.#over === null) await this.#mailbox.send(message);
  }

  /**
   * Asks the worker.
   * @throws {ControlError} what the worker says is wrong; "timeout" when it does not answer
   */
  // deno-lint-ignore no-explicit-any -- the operation's name decides; both ends are ours
  request(op: string, request: any = {}): Promise<any> {
    if (this.#over !== null) return Promise.reject(this.#over);
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new ControlError("timeout", `The data plane did not answer "${op}" within ${REQUEST_LIMIT_MS} ms`));
      }, REQUEST_LIMIT_MS);
      this.#waiting.set(id, { resolve, reject, timer });
      this.post({ kind: "request", id, op, request }).catch((error) => {
        clearTimeout(timer);
        this.#waiting.delete(id);
        reject(new ControlError("internal", (error as Error).message));
      });
    });
  }

  /** Waits for the loop no more: `finished` rejects with `error`. */
  abandon(error: Error): void {
    this.#end(error);
  }

  /** Asks the loop to end. `finished` tells when it has, or that the loop cannot be reached. */
  stop(): void {
    this.post({ kind: "stop" }).catch((error) =>
      this.#end(new ControlError("internal", `The data plane does not listen: ${(error as Error).message}`))
    );
  }
}

/** A bug of the data plane keeps its stack, which a report of it needs. */
function fatalError(message: string, stack: string, known: PlainError | undefined): Error {
  if (known !== undefined) return new ControlError(known.code, known.message);
  const error = new Error(`The data plane failed: ${message}`);
  error.stack = `The data plane failed: ${stack}`;
  return error;
}
