-- Up Migration
-- Every job is updated twice and leaves a dead entry in the index of unfinished jobs, which is read each second. By default a
-- vacuum comes after a fifth of the whole history has changed, however long that is: the index would grow with the history.
alter table jobs set (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 10000);
