/**
 * What worlds hand on to each other.
 *
 * @module
 */

import { EventHeap } from "./event_heap.ts";
import { Oracle } from "./oracle.ts";
import type { SimDisk } from "./sim_disk.ts";
import { SlotTable } from "./slots.ts";

/** Memory that worlds hand on to each other. */
export class Lab {
  readonly heap = new EventHeap();
  readonly slots = new SlotTable();
  readonly oracle = new Oracle();
  readonly disks: SimDisk[] = [];
}
