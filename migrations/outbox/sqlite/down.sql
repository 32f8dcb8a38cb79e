DROP TABLE celeriac_outbox_relay;
DROP TABLE celeriac_outbox_rejected;
DROP TABLE celeriac_outbox_calls;
DROP TABLE celeriac_outbox;
