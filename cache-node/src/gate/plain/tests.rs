//! What an owner orders and what holders keep, in all orders of what can happen between them.
