/**
 * The one queue of a simulated world: events ordered by virtual time, ties broken by the order in which they were made.
 * That order is total, so a world is a pure function of its seed.
 *
 * Event objects are reused: a world of ten thousand events allocates a few hundred of them.
 *
 * @module
 */

/** One thing that will happen. What the fields mean is up to the kind; see `world.ts`. */
export class SimEvent {
  timeMs = 0;
  order = 0;
  kind = 0;
  /** Whom it concerns, and in which of its lives; an event for an earlier life is dropped. */
  // deno-lint-ignore no-explicit-any -- each kind has its own target
  target: any = null;
  life = 0;
  a = 0;
  b = 0;
  // deno-lint-ignore no-explicit-any -- each kind has its own payload
  data: any = null;
}

/** A binary heap of {@link SimEvent}. */
export class EventHeap {
  #heap: SimEvent[] = [];
  #spare: SimEvent[] = [];
  #order = 0;

  /** Events waiting. */
  get length(): number {
    return this.#heap.length;
  }

  /** When the next event is due. */
  get nextMs(): number {
    return this.#heap.length === 0 ? Infinity : this.#heap[0].timeMs;
  }

  /** Forgets everything, for the next world. */
  clear(): void {
    for (const event of this.#heap) this.release(event);
    this.#heap.length = 0;
    this.#order = 0;
  }

  /** A new event in the queue; the caller fills in the rest. */
  push(timeMs: number, kind: number, target: unknown, life: number): SimEvent {
    return this.#insert(timeMs, kind, target, life, this.#order++);
  }

  /** `event` once more, later. Among those of the same time it keeps its place: what came after it stays behind it. */
  defer(event: SimEvent, timeMs: number): void {
    const later = this.#insert(timeMs, event.kind, event.target, event.life, event.order);
    later.a = event.a;
    later.b = event.b;
    later.data = event.data;
  }

  #insert(timeMs: number, kind: number, target: unknown, life: number, order: number): SimEvent {
    const event = this.#spare.pop() ?? new SimEvent();
    event.timeMs = timeMs;
    event.order = order;
    event.kind = kind;
    event.target = target;
    event.life = life;
    event.a = 0;
    event.b = 0;
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parentAt = (at - 1) >> 1;
      const parent = heap[parentAt];
      if (comesBefore(parent, event)) break;
      heap[at] = parent;
      at = parentAt;
    }
    heap[at] = event;
    return event;
  }

  /** The next event, out of the queue; give it back with `release`. Null when nothing will ever happen again. */
  pop(): SimEvent | null {
    const heap = this.#heap;
    if (heap.length === 0) return null;
    const first = heap[0];
    const last = heap.pop()!;
    const count = heap.length;
    if (count > 0) {
      let at = 0;
      for (;;) {
        let child = at * 2 + 1;
        if (child >= count) break;
        if (child + 1 < count && comesBefore(heap[child + 1], heap[child])) child++;
        if (!comesBefore(heap[child], last)) break;
        heap[at] = heap[child];
        at = child;
      }
      heap[at] = last;
    }
    return first;
  }

  /** The event was handled; its object may be used again. */
  release(event: SimEvent): void {
    event.target = null;
    event.data = null;
    this.#spare.push(event);
  }
}

function comesBefore(left: SimEvent, right: SimEvent): boolean {
  return left.timeMs < right.timeMs || (left.timeMs === right.timeMs && left.order < right.order);
}
