/**
 * The stores of a leg that is served: its blocks and its metadata, on one descriptor under one lock.
 *
 * @module
 */

import type { BufferPool } from "../io/buffer_pool.ts";
import type { Reactor } from "../io/reactor.ts";
import type { BlockStore, BlockStoreHandler, MetadataStore, MetadataStoreHandler } from "./block_store.ts";
import type { DeviceFile } from "./device_file.ts";
import { shareBlockStore } from "./shared_block_store.ts";
import { TwinMetadataStore } from "./twin_metadata_store.ts";
import { UringBlockStore } from "./uring_block_store.ts";

/** How {@link openLegStore} works. */
export interface LegStoreOptions {
  /** Open for exclusive use; owned by the stores from now on. */
  readonly device: DeviceFile;
  readonly reactor: Reactor;
  readonly pool: BufferPool;
  readonly onBlockDone: BlockStoreHandler["onBlockDone"];
  readonly onMetadataDone: MetadataStoreHandler["onMetadataDone"];
  /** Most data requests at once. */
  readonly maxInFlight?: number;
}

/** See {@link openLegStore}. */
export interface LegStore {
  readonly blocks: BlockStore;
  readonly metadata: MetadataStore;
  /** Closes both and lets the device go. Only when nothing is in flight. */
  close(): void;
}

/** Opens the data path to a leg's device. */
export function openLegStore(options: LegStoreOptions): LegStore {
  const { device, reactor, pool, maxInFlight, onBlockDone, onMetadataDone } = options;
  const metadata = new TwinMetadataStore({ pool, handler: { onMetadataDone } });
  const [blocks, metadataBlocks] = shareBlockStore(
    (handler) => new UringBlockStore({ device, reactor, pool, handler, maxInFlight }),
    [{ onBlockDone }, metadata],
  );
  metadata.attach(metadataBlocks);
  return {
    blocks,
    metadata,
    close() {
      metadata.close();
      blocks.close();
    },
  };
}
