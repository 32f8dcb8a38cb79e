DROP TABLE dead_letters;
DROP TABLE dead_stats;
DROP FUNCTION dead_letters_counted();
DROP FUNCTION dead_letters_uncounted();
DROP FUNCTION dead_letters_recounted();
