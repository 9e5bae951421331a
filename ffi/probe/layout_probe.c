/*
 * Prints the sizes and offsets that ffi/verbs/layout.ts and ffi/rdmacm/layout.ts assume, as this machine's headers have
 * them: one "name value" a line. tests/ffi/rdma_layout_test.ts compiles it and compares.
 *
 *   cc ffi/probe/layout_probe.c -o probe && ./probe
 */
#include <stddef.h>
#include <stdio.h>
#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#define SIZE(type) printf("sizeof(" #type ") %zu\n", sizeof(struct type))
#define AT(type, member) printf(#type "." #member " %zu\n", offsetof(struct type, member))
#define VALUE(name) printf(#name " %ld\n", (long)(name))

int main(void) {
  AT(ibv_context, ops.poll_cq);
  AT(ibv_context, ops.req_notify_cq);
  AT(ibv_context, ops.post_send);
  AT(ibv_context, ops.post_recv);
  AT(ibv_context, device);
  AT(ibv_context, async_fd);
  AT(ibv_comp_channel, fd);
  AT(ibv_mr, lkey);
  AT(ibv_mr, rkey);
  SIZE(ibv_qp_init_attr);
  AT(ibv_qp_init_attr, send_cq);
  AT(ibv_qp_init_attr, recv_cq);
  AT(ibv_qp_init_attr, cap.max_send_wr);
  AT(ibv_qp_init_attr, cap.max_recv_wr);
  AT(ibv_qp_init_attr, cap.max_send_sge);
  AT(ibv_qp_init_attr, cap.max_recv_sge);
  AT(ibv_qp_init_attr, cap.max_inline_data);
  AT(ibv_qp_init_attr, qp_type);
  SIZE(ibv_qp_attr);
  AT(ibv_qp_attr, path_mtu);
  SIZE(ibv_sge);
  AT(ibv_sge, addr);
  AT(ibv_sge, length);
  AT(ibv_sge, lkey);
  SIZE(ibv_send_wr);
  AT(ibv_send_wr, wr_id);
  AT(ibv_send_wr, next);
  AT(ibv_send_wr, sg_list);
  AT(ibv_send_wr, num_sge);
  AT(ibv_send_wr, opcode);
  AT(ibv_send_wr, send_flags);
  AT(ibv_send_wr, wr.rdma.remote_addr);
  AT(ibv_send_wr, wr.rdma.rkey);
  SIZE(ibv_recv_wr);
  AT(ibv_recv_wr, wr_id);
  AT(ibv_recv_wr, next);
  AT(ibv_recv_wr, sg_list);
  AT(ibv_recv_wr, num_sge);
  SIZE(ibv_wc);
  AT(ibv_wc, wr_id);
  AT(ibv_wc, status);
  AT(ibv_wc, byte_len);
  SIZE(ibv_async_event);
  AT(ibv_async_event, event_type);
  AT(rdma_event_channel, fd);
  AT(rdma_cm_id, verbs);
  AT(rdma_cm_id, qp);
  AT(rdma_cm_id, route.addr.src_addr);
  AT(rdma_cm_id, route.addr.dst_addr);
  AT(rdma_cm_id, route.addr.addr.ibaddr.sgid);
  AT(rdma_cm_event, id);
  AT(rdma_cm_event, listen_id);
  AT(rdma_cm_event, event);
  AT(rdma_cm_event, status);
  AT(rdma_cm_event, param.conn.private_data);
  AT(rdma_cm_event, param.conn.private_data_len);
  SIZE(rdma_conn_param);
  AT(rdma_conn_param, private_data);
  AT(rdma_conn_param, private_data_len);
  AT(rdma_conn_param, responder_resources);
  AT(rdma_conn_param, initiator_depth);
  AT(rdma_conn_param, flow_control);
  AT(rdma_conn_param, retry_count);
  AT(rdma_conn_param, rnr_retry_count);
  VALUE(IBV_WR_RDMA_WRITE);
  VALUE(IBV_WR_SEND);
  VALUE(IBV_SEND_SIGNALED);
  VALUE(IBV_SEND_SOLICITED);
  VALUE(IBV_SEND_INLINE);
  VALUE(IBV_ACCESS_LOCAL_WRITE);
  VALUE(IBV_ACCESS_REMOTE_WRITE);
  VALUE(IBV_WC_WR_FLUSH_ERR);
  VALUE(IBV_WC_REM_INV_REQ_ERR);
  VALUE(IBV_WC_REM_ACCESS_ERR);
  VALUE(IBV_WC_REM_OP_ERR);
  VALUE(IBV_WC_RETRY_EXC_ERR);
  VALUE(IBV_WC_RNR_RETRY_EXC_ERR);
  VALUE(IBV_EVENT_DEVICE_FATAL);
  VALUE(IBV_EVENT_PORT_ACTIVE);
  VALUE(IBV_EVENT_PORT_ERR);
  VALUE(IBV_QPT_RC);
  VALUE(IBV_QP_PATH_MTU);
  VALUE(RDMA_PS_TCP);
  VALUE(RDMA_OPTION_ID);
  VALUE(RDMA_OPTION_ID_REUSEADDR);
  VALUE(RDMA_OPTION_ID_ACK_TIMEOUT);
  VALUE(RDMA_CM_EVENT_ADDR_RESOLVED);
  VALUE(RDMA_CM_EVENT_ADDR_ERROR);
  VALUE(RDMA_CM_EVENT_ROUTE_RESOLVED);
  VALUE(RDMA_CM_EVENT_ROUTE_ERROR);
  VALUE(RDMA_CM_EVENT_CONNECT_REQUEST);
  VALUE(RDMA_CM_EVENT_CONNECT_ERROR);
  VALUE(RDMA_CM_EVENT_UNREACHABLE);
  VALUE(RDMA_CM_EVENT_REJECTED);
  VALUE(RDMA_CM_EVENT_ESTABLISHED);
  VALUE(RDMA_CM_EVENT_DISCONNECTED);
  VALUE(RDMA_CM_EVENT_DEVICE_REMOVAL);
  VALUE(RDMA_CM_EVENT_ADDR_CHANGE);
  return 0;
}
