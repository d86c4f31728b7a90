//! Rules, as packets in and packets out.
