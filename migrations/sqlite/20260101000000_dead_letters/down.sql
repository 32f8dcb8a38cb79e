DROP TABLE dead_letters;
DROP TABLE dead_stats;
