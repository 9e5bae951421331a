/**
 * Where the fields of librdmacm's structures lie (`rdma/rdma_cma.h` of rdma-core), and the values of its constants; compared
 * with installed headers like `ffi/verbs/layout.ts`. Sizes and offsets in bytes.
 *
 * @module
 */

/** Names as the probe prints them. */
export const RDMACM_LAYOUT = {
  "rdma_event_channel.fd": 0,
  "rdma_cm_id.verbs": 0,
  "rdma_cm_id.qp": 24,
  "rdma_cm_id.route.addr.src_addr": 32,
  "rdma_cm_id.route.addr.dst_addr": 160,
  "rdma_cm_id.route.addr.addr.ibaddr.sgid": 288,
  "rdma_cm_event.id": 0,
  "rdma_cm_event.listen_id": 8,
  "rdma_cm_event.event": 16,
  "rdma_cm_event.status": 20,
  "rdma_cm_event.param.conn.private_data": 24,
  "rdma_cm_event.param.conn.private_data_len": 32,
  "sizeof(rdma_conn_param)": 24,
  "rdma_conn_param.private_data": 0,
  "rdma_conn_param.private_data_len": 8,
  "rdma_conn_param.responder_resources": 9,
  "rdma_conn_param.initiator_depth": 10,
  "rdma_conn_param.flow_control": 11,
  "rdma_conn_param.retry_count": 12,
  "rdma_conn_param.rnr_retry_count": 13,
  RDMA_PS_TCP: 0x106,
  RDMA_OPTION_ID: 0,
  RDMA_OPTION_ID_REUSEADDR: 1,
  RDMA_OPTION_ID_ACK_TIMEOUT: 3,
} as const;

/** What an event of the connection manager says. */
export const CmEventType = {
  ADDR_RESOLVED: 0,
  ADDR_ERROR: 1,
  ROUTE_RESOLVED: 2,
  ROUTE_ERROR: 3,
  CONNECT_REQUEST: 4,
  CONNECT_ERROR: 6,
  UNREACHABLE: 7,
  REJECTED: 8,
  ESTABLISHED: 9,
  DISCONNECTED: 10,
  DEVICE_REMOVAL: 11,
  ADDR_CHANGE: 14,
} as const;
