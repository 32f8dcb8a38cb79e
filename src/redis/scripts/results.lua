-- Reads results that wait to be taken to another server.
--
-- KEYS  root of the queue
-- ARGV  most
-- Reply ids as hex and what is kept, flat
return call('HRANDFIELD', root .. 'results', ARGV[1], 'WITHVALUES')
