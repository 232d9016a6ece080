// What a compromised agent might send to a database, by what it tries; and a database of somebody careless to try it on.
//
// In statements, `$p`, `$i`, `$c` stand for the schemas of the views, of what they need, and of the catalogs; `$o` and `$a`
// for the roles of the views' owner and of the agent, `$n` for the database; `$PORT` for a port where somebody listens who
// should not hear anything, `$DIR` for a folder in which nothing should appear.

/** Statements that go one after the other over one connection, whatever becomes of each. */
export type Attack = readonly string[]

/**
 * What works for every role of the database because its owner gave it to PUBLIC: no view can take it away. `sallyport db
 * verify` tells of each, and with its advice followed none of these may work.
 */
export interface Gift {
  readonly gift: Attack
}

/** What the database alone does not stop, as `verify` says: the check of statements has to. */
export interface Upsert {
  readonly upsert: string
}

export type Entry = string | Attack | Gift | Upsert

const upsert = (statement: string): Upsert => ({ upsert: statement })
const gift = (...statements: readonly string[]): Gift => ({ gift: statements })

/** Tables beside those of the help desk. Everything that is not described holds `HIDDEN`, or 987654. */
export const moreTables = `
  alter table salaries add column iban text not null default 'HIDDEN-IBAN';
  create table preferences (
    customer_id int not null references customers, key text not null, value text, secret_note text default 'HIDDEN-P',
    primary key (customer_id, key)
  );
  insert into preferences values (7, 'theme', 'dark'), (8, 'theme', 'BOBS-THEME'), (8, 'language', 'BOBS-LANGUAGE');
  create table audit (entry text);
  create materialized view totals as select sum(amount) as total, 'HIDDEN-TOTAL' as note from salaries;
  create sequence invoice;
`

/** What careless people add to them. */
export const careless = (port: number, password: string): string => `
  grant create on schema public to public;
  alter default privileges grant select on tables to public;

  create function boss() returns setof public.salaries language sql security definer as 'select * from public.salaries';
  create function boss(text) returns text language sql security definer
    as 'select name || amount || iban from public.salaries limit 1';
  create function raise_pay(by int) returns int language sql security definer
    as 'update public.salaries set amount = amount + by returning amount';
  create function run_sql(statement text) returns text language plpgsql security definer
    as 'declare result text; begin execute statement into result; return result; end';
  create function total_of(variadic text[]) returns bigint language sql security definer
    as 'select sum(amount) from public.salaries where name = any ($1)';
  create function tell(text) returns boolean language plpgsql security definer
    as $$ begin raise exception 'boss: %', (select name || amount || iban from public.salaries limit 1); end $$;
  create function note_of(public.tickets) returns text language sql security definer
    as 'select secret_note from public.tickets where id = $1.id';
  create procedure fire() language sql security definer as 'delete from public.salaries';
  create function step(text, text) returns text language sql security definer as 'select public.boss($2)';
  create aggregate spy(text) (sfunc = public.step, stype = text);
  create function told(text, text) returns text language sql security definer as 'select public.boss($1)';
  create operator @@@ (leftarg = text, rightarg = text, function = public.told);
  create domain vip as text check (public.tell(value));
  create type secret as (what text);
  create function to_secret(text) returns public.secret language sql security definer as 'select row(public.boss($1))::public.secret';
  create cast (text as public.secret) with function public.to_secret(text);
  create function audit_it() returns trigger language plpgsql security definer
    as 'begin insert into public.audit values (lower(old.secret_note)); return coalesce(new, old); end';
  create trigger audit_it after update or delete on tickets for each row execute function audit_it();

  create view pay as select * from salaries;
  select lo_from_bytea(4711, 'HIDDEN-OBJECT');
  grant select on large object 4711 to public;

  create extension dblink;
  create extension postgres_fdw;
  create extension tablefunc;
  create extension lo;
  create extension xml2;
  create extension pg_trgm;
  create extension pgstattuple;
  create extension pageinspect;
  create extension pg_freespacemap;
  do $$ begin
    execute format('create server loopback foreign data wrapper postgres_fdw options (host %L, port %L, dbname %L)',
      '127.0.0.1', '${port}', current_database());
    execute format('create user mapping for public server loopback options (user %L, password %L)', 'postgres', '${password}');
    if not exists (select from pg_roles where rolname = 'application') then
      create role application login bypassrls password 'HIDDEN-PASSWORD';
    end if;
  end $$;
  grant usage on foreign server loopback to public;
  grant all on all tables in schema public to application;
  create foreign table far_salaries (name text, amount int, iban text) server loopback options (table_name 'salaries');
  revoke all on far_salaries from public;
`

const many = (count: number, text: string): string => text.repeat(count)

export const sqlAttacks: Readonly<Record<string, readonly Entry[]>> = {
  'another table, spelt many ways': [
    'select * from salaries',
    'select * from public.salaries',
    'SELECT * FROM "public"."salaries"',
    'select * from U&"\\0070ublic".U&"s\\0061laries"',
    'select * from U&"p!0075blic"uescape\'!\'."salaries"',
    'table public.salaries',
    'select * from only public.salaries',
    'select * from public.salaries *',
    'select * from /* tickets */ public /**/ . /* */ salaries',
    'select * from public.salaries -- tickets',
    'select s.* from tickets t, public.salaries s',
    'select * from tickets t natural full join public.salaries s',
    'select id, subject from tickets union all select amount, name from public.salaries',
    'select (select name || amount from public.salaries limit 1)',
    'select array(select name from public.salaries)',
    'with tickets as (select * from public.salaries) select * from tickets',
    'with salaries as (select * from public.salaries) select * from salaries',
    'with salaries as (select * from salaries) select * from salaries',
    'select * from (with salaries as (select 1) select 1) x, public.salaries',
    'values ((select iban from public.salaries limit 1))',
    'select * from public.totals',
    'select * from public.far_salaries',
    gift('select * from public.pay'),
    gift('select (select string_agg(p::text, $$,$$) from public.pay p) from tickets'),
    'select * from public.salaries tablesample system (100)',
    'insert into responses (ticket_id, body) select 1, name || amount from public.salaries returning body',
    'update tickets set body = (select name || amount from public.salaries limit 1) where id = 1 returning body',
    'delete from tickets using public.salaries s where s.amount > 1 returning s.*',
    'update public.salaries set amount = 1',
    "insert into public.salaries values ('me', 1)",
    'delete from public.salaries',
    'truncate public.salaries',
  ],

  'rows of another customer': [
    'select * from tickets',
    'select * from public.tickets where customer_id = 8',
    'select * from tickets where id = 3',
    'select * from tickets where true or customer_id = 8',
    'select * from $p.tickets where customer_id <> 7',
    'select count(*), max(body), min(body), string_agg(body, $$,$$) from tickets',
    'select t.*, c.* from tickets t full join customers c on true',
    'select * from responses r left join tickets t on t.id = r.ticket_id',
    'select * from customers where id in (7, 8) or name is not null',
    'select * from tickets t, lateral (select * from tickets u where u.customer_id <> t.customer_id) x',
    'with recursive r as (select * from tickets union select t.* from tickets t, r where t.id = r.id + 1) select * from r',
    'select id, lead(body) over (order by id), lag(body) over (order by id) from tickets',
    'select id, count(*) over (), first_value(body) over (order by customer_id desc) from tickets',
    'select customer_id, count(*) from tickets group by cube (customer_id, id)',
    'select * from preferences where customer_id = 8 or key is not null',
    'table preferences',
    'select * from tickets order by customer_id <> 8, body desc limit 1 offset 2',
    "update tickets set status = 'closed' where id = 3 returning *",
    "update tickets set status = 'closed', body = 'gone' where customer_id = 8",
    'update tickets t set body = u.body from tickets u where u.id = 3 and t.id = 1 returning t.body',
    'delete from tickets where customer_id = 8 returning *',
    'delete from tickets t using responses r where r.ticket_id = 3',
    'update preferences set value = null where customer_id = 8',
    'update tickets set customer_id = 8',
    "insert into tickets (customer_id, subject) values (8, 'for bob') returning *",
    "insert into tickets (customer_id, subject) values (8, 'x') on conflict do nothing",
    "insert into responses (ticket_id, body) values (3, 'to bob')",
    "insert into responses (ticket_id, body) select id, 'x' from generate_series(1, 4) id",
    "insert into preferences (customer_id, key, value) values (8, 'font', 'x')",
  ],

  'hidden columns and masks': [
    'select secret_note from tickets',
    'select t.secret_note from tickets t',
    'select (t).secret_note from tickets t',
    'select t from tickets t',
    'select t::text, row_to_json(t), to_jsonb(t) from tickets t',
    'select * from tickets as t (a, b, c, d, e, f, g, h)',
    'select (t.*) = (t.*), (t).* from tickets t',
    'select json_agg(r), jsonb_object_agg(id, r) from responses r',
    'select internal_comment from responses',
    "select id from tickets where secret_note like 'HIDDEN%'",
    'select id from tickets order by secret_note',
    'select max(secret_note) from tickets group by secret_note',
    "insert into responses (ticket_id, body, internal_comment) values (1, 'x', 'HIDDEN') returning internal_comment",
    "insert into responses (ticket_id, body) values (1, 'x') returning *, internal_comment",
    'update tickets set body = secret_note where id = 1 returning body',
    "update tickets set secret_note = 'x' where id = 1",
    'select ssn, phone, email, name from customers',
    "select id from customers where ssn = 'SSN-ADA'",
    'select c.ssn::int from customers c',
    'select phone::numeric from customers',
    'select email::int from customers where id = 7',
    'select to_json(c) from customers c',
    'select ctid, xmin, tableoid, cmax from tickets',
    "update preferences set value = 'x' where key = 'theme' returning secret_note",
    "insert into preferences (customer_id, key, value) values (7, 'new', 'x') returning *",
  ],

  'roles and identities': [
    'set role $o',
    'set role postgres',
    'set role application',
    'set local role postgres',
    "set session authorization 'postgres'",
    'reset role',
    ['reset session authorization', 'select * from public.salaries'],
    ['begin read only', 'commit', 'set role postgres', 'select * from public.salaries'],
    ['discard all', 'select * from public.tickets'],
    "select set_config('role', 'postgres', false)",
    "select set_config('session_authorization', 'postgres', false)",
    "select set_config('is_superuser', 'on', false)",
    "do $$ begin execute 'set role postgres'; end $$",
    'grant $o to $a',
    'grant application to current_user',
    'grant pg_read_all_data to current_user',
    'alter role current_user superuser',
    'alter role $a bypassrls',
    "alter role $a password 'x'",
    'alter role $a set statement_timeout = 0',
    'alter user current_user set search_path = public',
    'create role mine superuser login',
    'create user mine in role postgres',
    'drop role application',
    'reassign owned by $o to $a',
    'drop owned by $o cascade',
    'drop owned by current_user',
    'alter default privileges for role $o grant all on tables to public',
    'grant all on all tables in schema public to public',
    'grant select on $p.tickets to public',
    'revoke all on $p.tickets from $o',
    'alter view $p.tickets owner to $a',
    'alter schema $p owner to current_user',
    "security label for dummy on role $a is 'x'",
    "comment on role $a is 'x'",
  ],

  settings: [
    'set statement_timeout = 0',
    "set local statement_timeout = '1h'",
    "select set_config('statement_timeout', '0', false)",
    'set lock_timeout = 0',
    'set idle_in_transaction_session_timeout = 0',
    ['set search_path = public', 'select * from tickets'],
    ['set search_path = public, pg_catalog', 'select secret_note from tickets'],
    ["select set_config('search_path', 'public', false)", 'select * from salaries'],
    ['set row_security = off', 'select * from tickets'],
    'set session_replication_role = replica',
    'set default_transaction_read_only = off',
    'set transaction_read_only = off',
    'set temp_file_limit = -1',
    "set work_mem = '10GB'",
    "set log_statement = 'none'",
    "set client_encoding = 'LATIN1'",
    'set standard_conforming_strings = off',
    'set debug_print_parse = on',
    "set local_preload_libraries = '$DIR/x.so'",
    "set dynamic_library_path = '$DIR'",
    'set allow_system_table_mods = on',
    "set plan_cache_mode = 'force_generic_plan'",
    'alter system set log_statement = none',
    'alter database $n set search_path = public',
    'select pg_reload_conf()',
    'select pg_rotate_logfile()',
    'reset all',
    'show all',
    'show data_directory',
    "select current_setting('hba_file'), current_setting('log_directory')",
    "set sallyport.customer_id = '8'",
  ],

  'whose session it is': [
    ["select set_config('sallyport.customer_id', '8', false)", 'select * from tickets'],
    ['set request.jwt.claims = \'{"customer_id": 8}\'', 'select * from tickets'],
    'select * from $i.session',
    ['update $i.session set scope = \'{"customer_id": 8}\'', 'select * from tickets'],
    [
      'insert into $i.session (pid, role, scope) values (pg_backend_pid(), current_user, \'{"customer_id": 8}\')',
      'select * from tickets',
    ],
    'delete from $i.session',
    "select $i.scope('customer_id')",
    ['set search_path = $i', "select scope('customer_id')"],
    ['set search_path = $i, $p', 'select * from session'],
    'select * from $i.key',
    "select $i.hash('SSN-BOB')",
    [
      "create function pg_temp.scope(text) returns text language sql as 'select 8::text'",
      'set search_path = pg_temp, $p',
      'select * from tickets',
    ],
    [
      "create function pg_temp.pg_backend_pid() returns int language sql as 'select 1'",
      'set search_path = pg_temp, pg_catalog, $p',
      'select * from tickets',
    ],
    [
      "create function public.scope(text) returns text language sql as 'select 8::text'",
      'set search_path = public, $p',
      'select * from $p.tickets',
    ],
    ['alter function $i.scope(text) reset all', 'select * from tickets'],
    "create or replace function $i.scope(text) returns text language sql as 'select 8::text'",
    'drop function $i.scope(text) cascade',
  ],

  'functions wherever they can stand': [
    'select pg_sleep(0.01)',
    'select pg_catalog.pg_sleep(0.01)',
    'select U&"pg\\005fsleep"(0.01)',
    'select * from pg_ls_waldir()',
    gift('select * from rows from (pg_sleep(0.01), public.boss())'),
    gift('select * from rows from (generate_series(1, 1), public.boss()) as x'),
    gift('select x.* from tickets, lateral public.boss() x'),
    gift("select id from tickets order by public.tell('x')"),
    gift("select count(*) filter (where public.tell('x')) from tickets"),
    gift("select sum(id) over (order by public.boss('x')), public.boss('x') from tickets"),
    gift("select id from tickets limit length(public.run_sql('select pg_notify(''attack'', ''x'')'))"),
    gift('select * from tickets where public.tell(subject)'),
    gift('select (select b from public.boss() b limit 1)'),
    gift("select case public.boss('x') when 'y' then 1 else (select max(amount) from public.boss()) end"),
    gift("insert into responses (ticket_id, body) values (1, public.boss('x')) returning body"),
    gift("update tickets set body = public.boss('x') where id = 1 returning body"),
    gift("delete from tickets where id = 1 returning public.boss('x')"),
    gift("select array[public.boss('x')], row(public.boss('x')), greatest(public.boss('x'), '')"),
    gift('values (public.boss($$x$$))'),
    "select nextval('public.invoice')",
    "select setval('public.invoice', 1000)",
    "select setval('public.tickets_id_seq', 1)",
    "select nextval('public.tickets_id_seq')",
    'select txid_current(), pg_current_xact_id()',
    'select setseed(0.5), random()',
    "select pg_logical_emit_message(false, 'a', 'b')",
    'select pg_export_snapshot()',
    'select pg_switch_wal()',
    "select pg_create_restore_point('x')",
    'select pg_stat_reset()',
    'select pg_promote()',
    "select pg_replication_origin_create('x')",
    "select pg_create_physical_replication_slot('x')",
    "select pg_import_system_collations('pg_catalog')",
  ],

  'functions behind a dot': [
    'select (0.01::float8).pg_sleep',
    "select ('/etc/passwd'::text).pg_read_file",
    "select ('select to_tsvector(subject) from public.tickets'::text).ts_stat",
    'select (1::bigint).pg_advisory_lock',
    'select (array[1::bigint])[1].pg_advisory_lock',
    'select (0).lo_creat',
    'select ((select 1::bigint)).pg_advisory_lock',
    "select ('public.invoice'::regclass).nextval",
    "select ('.'::text).pg_ls_dir",
    'select x.pg_advisory_lock from unnest(array[1::bigint]) x',
    'select x.lo_creat from (values (1)) x (v)',
    'select lo_creat.lo_creat from unnest(array[1]) lo_creat',
    ['set search_path = $p, public', 'select t.note_of from tickets t'],
    gift('set search_path = $p, public', "select ('x'::text).boss"),
    gift('set search_path = $p, public', "select ('select iban from salaries'::text).run_sql"),
    gift('set search_path = $p, public', 'select x.boss from unnest(array[$$x$$::text]) x'),
    gift(
      'set search_path = $p, public',
      'select subject.boss from (select subject::text from tickets) s, lateral (select s.subject) x, lateral unnest(array[x.subject]) subject',
    ),
    'update tickets set status.pg_sleep = 1 where id = 1',
    'update tickets set status = $$x$$ where id = 1 returning (1::bigint).pg_advisory_lock',
    'select t.pg_column_size, t.pg_typeof, t.hash_record from tickets t',
  ],

  'operators, casts, domains, aggregates, arguments by name': [
    gift("select 'a'::text operator(public.@@@) 'b'::text"),
    gift('set search_path = $p, public', "select 'a'::text @@@ 'b'::text"),
    gift(
      "select id from tickets where subject operator(public.@@@) 'x' = body union select 1 where ('a'::text operator(public.@@@) 'b')::int > 0",
    ),
    gift("select 'x'::public.vip"),
    gift('select cast(subject as public.vip) from tickets'),
    gift("select ('{x}'::public.vip[])[1]"),
    gift("select ('x'::text)::public.secret"),
    gift('set search_path = $p, public', "select secret('x'::text)"),
    gift('select public.spy(subject) from tickets'),
    gift('select public.spy(subject) over (order by id) from tickets'),
    gift('select public.spy(distinct subject order by subject) filter (where true) from tickets'),
    gift("select public.run_sql(statement => 'select iban from public.salaries')"),
    gift("select public.run_sql(statement := 'select iban from public.salaries')"),
    gift("select public.total_of('ceo', 'x')"),
    gift("select public.total_of(variadic array['ceo'])"),
    "select concat(variadic array[pg_read_file('/etc/passwd')])",
    'select make_interval(secs => pg_sleep(0.01)::text::int)',
    "select 'public.salaries'::regclass::oid, 'boss'::regproc, 'postgres'::regrole, 'public'::regnamespace",
    "select null::public.salaries, (null::public.salaries).iban, '(ceo,1,x)'::public.salaries",
    "select '1'::public.lo, 'x' collate public.mine",
    'select id from tickets order by id using operator(public.<)',
    "select 'a' similar to 'b' escape pg_read_file('x')",
    gift("select * from json_to_recordset('[{}]') as x (a public.vip)"),
    "select jsonb_populate_record(null::public.salaries, '{}')",
  ],

  'functions that run text': [
    "select query_to_xml('select * from public.salaries', true, true, '')",
    "select query_to_xml('select * from tickets', true, true, '')",
    "select table_to_xml('public.salaries', true, true, '')",
    gift("select schema_to_xml('public', true, true, '')"),
    gift("select database_to_xml(true, false, '')"),
    [
      'begin',
      'declare c cursor for select * from public.salaries',
      "select cursor_to_xml('c', 9, true, true, '')",
      'rollback',
    ],
    "select * from ts_stat('select to_tsvector(iban) from public.salaries')",
    "select ts_rewrite('a'::tsquery, 'select to_tsquery(iban), to_tsquery(name) from public.salaries')",
    "select * from public.connectby('public.salaries', 'name', 'name', 'ceo', 0) as t (a text, b text, c int)",
    "select * from public.crosstab('select name, iban, amount from public.salaries') as t (a text, b int)",
    "select * from public.xpath_table('name', 'iban', 'public.salaries', '/', 'true') as t (a text, b text)",
    gift("select public.run_sql('select iban from public.salaries')"),
    gift("select public.run_sql('drop table public.salaries cascade')"),
    gift("select public.run_sql('create role mine superuser')"),
    "select pg_get_viewdef('public.pay'::regclass)",
  ],

  'SECURITY DEFINER, for everybody': [
    gift('select * from public.boss()'),
    gift('select public.raise_pay(1)'),
    gift('select (public.boss()).iban'),
    gift('set search_path = public', 'select boss()'),
    gift(
      "select exists (select from public.boss() where amount > 900000 and name || amount ~ public.boss(''))",
      'select max(amount) from public.boss()',
    ),
    gift('call public.fire()'),
    gift('do $$ begin perform public.raise_pay(5); end $$'),
    gift('prepare q as select public.boss($1)', "execute q('x')"),
    gift('begin', 'declare c cursor for select * from public.boss()', 'fetch all c', 'rollback'),
    gift(
      'create function public.lower(text) returns text language plpgsql as $$ begin raise exception $q$%$q$, (select iban from public.salaries limit 1); end $$',
      'set search_path = public, pg_catalog',
      "update $p.tickets set status = 'x' where id = 1",
    ),
    'select public.audit_it()',
    ['set search_path = public', "update $p.tickets set status = 'x' where id = 1 returning *"],
  ],

  'the catalogs': [
    'select relname, relacl from pg_class where relnamespace = 2200',
    'select * from pg_catalog.pg_tables',
    'select * from information_schema.tables',
    "select column_name from information_schema.columns where table_name = 'salaries'",
    'select attname from pg_attribute where attrelid = (select oid from pg_class where relname = $$salaries$$)',
    'select prosrc from pg_proc where pronamespace = 2200',
    'select definition from pg_views',
    'select * from pg_stat_activity',
    'select query from pg_stat_activity where pid <> pg_backend_pid()',
    'select n_live_tup, relname from pg_stat_user_tables',
    'select relname, reltuples, relpages from pg_class',
    'select * from pg_settings',
    'select rolname, rolsuper, rolconfig from pg_roles',
    'select * from pg_authid',
    'select * from pg_shadow',
    'select usename, passwd from pg_user',
    'select * from pg_user_mappings',
    'select * from pg_user_mapping',
    'select srvname, srvoptions from pg_foreign_server',
    'select * from pg_hba_file_rules',
    'select * from pg_statistic',
    "select most_common_vals, histogram_bounds from pg_stats where tablename in ('tickets', 'salaries', 'customers')",
    'select * from pg_stats_ext',
    'select * from pg_largeobject',
    'select * from pg_locks',
    'select * from pg_prepared_statements',
    'select * from pg_cursors',
    'select * from pg_trigger',
    'select conname, pg_get_constraintdef(oid) from pg_constraint',
    "select pg_get_functiondef('public.boss()'::regprocedure)",
    "select pg_relation_size('public.salaries'), pg_total_relation_size('public.tickets')",
    "select has_table_privilege('public.salaries', 'select'), to_regclass('public.salaries')",
    "select obj_description('public.salaries'::regclass)",
    'select version(), current_user, session_user, current_database(), inet_server_addr()',
    "select col_description(1259, 1), shobj_description(10, 'pg_authid')",
    'select * from pg_db_role_setting',
    'update pg_class set relacl = null',
    'insert into pg_authid (rolname) values ($$x$$)',
    "update pg_settings set setting = '0' where name = 'statement_timeout'",
    'select * from $c.pg_class',
    'table pg_toast.pg_toast_2619',
  ],

  'DO, CALL, COPY': [
    'do $$ begin perform 1; end $$',
    "do language plpgsql $$ begin execute 'create table public.x (y int)'; end $$",
    "do $$ begin raise notice '%', (select iban from public.salaries limit 1); end $$",
    'call public.nothing()',
    'copy public.salaries to stdout',
    'copy tickets to stdout',
    'copy (select * from public.salaries) to stdout',
    'copy (select * from tickets) to stdout',
    'copy responses (ticket_id, body) from stdin',
    "copy (select 1) to '$DIR/copied'",
    "copy (select * from tickets) to program 'cat > $DIR/copied'",
    ['create temp table t (x text)', "copy t from '/etc/passwd'", 'select * from t'],
    ['create temp table t (x text)', "copy t from program 'touch $DIR/ran'", 'select * from t'],
    "copy tickets from '/etc/passwd'",
    'explain copy tickets to stdout',
    'with x as (copy tickets to stdout) select 1',
  ],

  'MERGE and ON CONFLICT': [
    'merge into tickets t using (select 3 as id) s on t.id = s.id when matched then delete',
    'merge into public.tickets t using customers c on t.customer_id = c.id when matched then delete',
    "merge into tickets t using (values (3)) s (id) on t.id = s.id when matched then update set body = 'x' when not matched then insert (customer_id, subject) values (8, 'x')",
    'merge into public.salaries s using tickets t on true when matched then update set amount = 1',
    'with x as (merge into tickets t using customers c on true when matched then delete returning t.*) select * from x',
    upsert(
      "insert into preferences (customer_id, key, value) values (8, 'theme', 'x') on conflict (customer_id, key) do update set value = preferences.value || excluded.value returning *",
    ),
    upsert(
      "insert into preferences (customer_id, key, value) values (8, 'theme', 'x') on conflict (customer_id, key) do update set value = 'x' where preferences.value::int > 0",
    ),
    upsert(
      "insert into preferences as p (customer_id, key, value) values (8, 'theme', 'x') on conflict (customer_id, key) do update set value = case when p.value like 'B%' then (1 / 0)::text end",
    ),
    upsert(
      "with x as (insert into preferences as p (customer_id, key, value) select 8, key, value from (values ('theme', 'x')) v (key, value) on conflict (customer_id, key) do update set value = p.value::date::text returning *) select * from x",
    ),
    "insert into preferences (customer_id, key, value) values (8, 'theme', 'x') on conflict (customer_id, key) do update set value = 'x' returning *",
    "insert into preferences as p (customer_id, key, value) values (7, 'theme', 'x') on conflict (customer_id, key) do update set value = p.value || excluded.value returning *",
    "insert into preferences (customer_id, key, value) values (7, 'theme', 'x') on conflict (customer_id, key) do update set customer_id = 8, value = 'x'",
    "insert into preferences (customer_id, key, value) values (8, 'theme', 'x') on conflict on constraint preferences_pkey do update set secret_note = 'x'",
    "insert into preferences (customer_id, key, value) values (7, 'theme', 'x') on conflict (customer_id, key) do update set value = preferences.secret_note returning value",
    "insert into preferences (customer_id, key, value) values (7, 'theme', 'x') on conflict (customer_id, key) do update set value = (select iban from public.salaries limit 1) returning value",
    'insert into preferences (customer_id, key, value) select 8, key, value from preferences on conflict do nothing returning *',
    "insert into tickets (id, customer_id, subject) overriding system value values (3, 7, 'x') on conflict (id) do update set subject = 'x' returning *",
  ],

  'changes below a SELECT': [
    'with gone as (delete from tickets where customer_id = 8 returning *) select * from gone',
    'with gone as (delete from public.tickets returning *) select * from gone',
    'with gone as (delete from public.salaries returning *) select count(*) from gone',
    "with new as (insert into tickets (customer_id, subject) values (8, 'x') returning *) select * from new",
    "with a as (update tickets set body = 'x' returning *), b as (select * from public.salaries) select * from a, b",
    'with a as materialized (delete from public.preferences returning *) select 1',
    'select * from (delete from tickets returning *) x',
    'with a as (with b as (delete from public.tickets returning 1) select * from b) select * from a',
    'with x as (truncate public.salaries) select 1',
    'create table public.y as with g as (delete from tickets returning *) select * from g',
  ],

  EXPLAIN: [
    'explain select * from tickets where customer_id = 8',
    'explain (analyze, verbose, buffers) select * from tickets',
    'explain analyze delete from tickets where id = 3',
    'explain analyze delete from public.salaries',
    'explain (analyze) update tickets set body = $$x$$',
    'explain analyze insert into tickets (customer_id, subject) values (8, $$x$$)',
    'explain (format json, analyze off) select * from public.salaries where amount > 1',
    'explain analyze create table public.x as select 1',
    'explain (generic_plan) select * from tickets where id = $1',
    'explain analyze execute q',
  ],

  'cursors and prepared statements': [
    'prepare q as select * from public.salaries',
    ['prepare q as delete from public.salaries', 'execute q'],
    ['prepare q (int) as select * from tickets where id = $1', 'execute q (3)'],
    ['prepare q as select * from tickets', 'set search_path = public', 'execute q'],
    ['prepare q (regclass) as select $1', "execute q ('public.salaries')"],
    ['execute q (pg_sleep(1))'],
    ['begin', 'declare c cursor for select * from public.salaries', 'fetch all c', 'commit'],
    ['begin', 'declare c cursor with hold for select * from tickets', 'commit', 'fetch all c', 'close c'],
    [
      'begin',
      'declare c scroll cursor for select * from tickets',
      'fetch all c',
      'fetch first c',
      'move all c',
      'fetch backward all c',
      'commit',
    ],
    [
      'begin',
      'declare c cursor for select * from tickets for update',
      'fetch 1 c',
      "update tickets set body = 'x' where current of c",
      'rollback',
    ],
    ['begin', 'declare c binary cursor for select body from tickets', 'fetch all c', 'rollback'],
    ['begin', 'set transaction isolation level serializable', 'select * from tickets', 'commit'],
    ['begin', "select set_config('transaction_read_only', 'off', true)", 'delete from public.salaries', 'commit'],
    ["prepare transaction 'attack'"],
    ['begin', "update tickets set status = 'x' where id = 1", "prepare transaction 'attack'"],
    ["commit prepared 'attack'", "rollback prepared 'attack'"],
    'deallocate all',
    'fetch all from "<unnamed portal 1>"',
  ],

  'things that are made': [
    'create table public.mine (x int)',
    'create table $p.mine (x int)',
    'create table pg_catalog.mine (x int)',
    'create unlogged table public.mine as select * from tickets',
    ['create temp table mine as select * from public.salaries', 'select * from mine'],
    ['create temp table mine as select * from tickets', 'select * from mine'],
    ['create temp table tickets (id int, customer_id int, body text)', 'select * from tickets'],
    ['create temp table mine () inherits (public.salaries)', 'select * from mine'],
    ['create temp table mine (like public.salaries including all)', 'select * from mine'],
    'create temp table mine partition of public.salaries default',
    ['create temp view mine as select * from public.salaries', 'select * from mine'],
    'create view public.mine as select * from public.salaries',
    'create or replace view $p.tickets as select * from public.tickets',
    'alter view $p.tickets set (security_barrier = false)',
    'alter view $p.tickets set schema public',
    'alter table public.tickets add column x int',
    'alter table public.tickets disable trigger all',
    'alter table public.tickets enable row level security',
    'create materialized view public.mine as select * from public.salaries',
    'refresh materialized view public.totals',
    'select * into public.mine from tickets',
    'select * into temp mine from tickets',
    'create schema mine',
    "create function pg_temp.f() returns int language sql as 'select 1'",
    [
      "create function pg_temp.f() returns setof public.salaries language sql security definer as 'select * from public.salaries'",
      'select pg_temp.f()',
    ],
    [
      "create function public.f(text) returns boolean language plpgsql cost 0.0001 as $$ begin raise notice '%', $1; return true; end $$",
      'select * from $p.tickets where public.f(body)',
    ],
    [
      "create function pg_temp.f(text, text) returns boolean language plpgsql cost 0.0001 as $$ begin raise notice '%', $1; return true; end $$",
      'create operator pg_temp.=== (leftarg = text, rightarg = text, function = pg_temp.f)',
      "select * from tickets where body operator(pg_temp.===) 'x'",
    ],
    "create function public.f() returns int language c as '$DIR/x.so', 'f'",
    'create trigger t after insert on public.tickets for each row execute function audit_it()',
    'create rule r as on select to $p.tickets do instead select * from public.salaries',
    'create rule r as on update to $p.tickets do also select * from public.salaries',
    'create policy x on public.tickets using (true)',
    'create index on public.tickets ((public.boss(body)))',
    'create sequence public.mine',
    'create type public.mine as enum ()',
    "create domain pg_temp.mine as text check (value <> '')",
    'create extension hstore',
    'create extension plperlu',
    'drop extension dblink cascade',
    'create event trigger e on ddl_command_start execute function audit_it()',
    'create publication p for all tables',
    "create subscription s connection 'host=127.0.0.1 port=$PORT' publication p",
    'create statistics public.s on id, customer_id from public.tickets',
    'create collation public.mine from "C"',
    "create tablespace t location '$DIR'",
    'create database mine template $n',
    'create language plmine handler plpgsql_call_handler',
    'create access method mine type table handler heap_tableam_handler',
    "load '$DIR/x.so'",
    "comment on table public.tickets is 'x'",
    "security label on table public.tickets is 'x'",
    'vacuum full public.salaries',
    'analyze public.salaries',
    'cluster public.salaries',
    'reindex table public.salaries',
    'checkpoint',
  ],

  'the table is gone': [
    'drop table tickets',
    'DROP TABLE tickets',
    'dRoP/**/tAbLe/**/public.tickets',
    'drop table if exists public.tickets cascade',
    'drop table "public"."tickets", public.responses cascade',
    'drop table U&"\\0070ublic".tickets cascade',
    '/* select */ drop table public.tickets cascade',
    '-- select\ndrop table public.tickets cascade',
    '\ufeffdrop table public.tickets cascade',
    'select 1; drop table public.tickets cascade',
    "select 1;'; drop table public.tickets cascade; --",
    ['begin', 'drop table public.tickets cascade', 'commit'],
    'commit; drop schema public cascade',
    'drop schema public cascade',
    'drop schema if exists $p cascade',
    'drop schema $i cascade',
    'drop view $p.tickets cascade',
    'drop view tickets',
    'drop database $n',
    'drop materialized view public.totals',
    'drop sequence public.invoice',
    'drop function public.boss()',
    'drop trigger audit_it on public.tickets',
    'drop role $o',
    'truncate public.tickets cascade',
    'truncate tickets',
    'truncate only public.responses restart identity',
    'alter table public.tickets rename to gone',
    'alter table public.tickets drop column body',
    'alter table public.tickets set schema pg_temp',
    'do $$ begin drop table public.tickets cascade; end $$',
    "do $$ begin execute 'dr' || 'op table public.tickets cascade'; end $$",
    'explain analyze drop table public.tickets',
    ['prepare q as drop table public.tickets', 'execute q'],
    "select dblink_exec('loopback', 'select 1')",
    'with x as (drop table public.tickets) select 1',
    "create function pg_temp.f() returns void language sql as 'drop table public.tickets'",
  ],

  locks: [
    'select * from tickets for update',
    'select * from tickets where id = 1 for no key update',
    'select * from tickets for share of tickets skip locked',
    'select * from (select * from tickets for key share) x',
    'with x as (select * from tickets for update) select * from x',
    'select * from public.tickets for update',
    'lock table tickets',
    'lock public.tickets in access exclusive mode',
    ['begin', 'lock table tickets in exclusive mode', 'lock table public.customers in access share mode', 'rollback'],
    'select pg_advisory_lock(1)',
    'select pg_advisory_lock(1, 2) from tickets',
    'select pg_try_advisory_lock(4711)',
    'select pg_advisory_lock_shared(1)',
    'select pg_advisory_xact_lock(1)',
    'select pg_advisory_unlock_all()',
  ],

  'LISTEN and NOTIFY': [
    'listen attack',
    'notify attack',
    "notify attack, 'hello'",
    "select pg_notify('attack', 'hello')",
    "select ('attack'::text).pg_notify",
    'select pg_listening_channels()',
    'unlisten *',
  ],

  'large objects': [
    'select lo_create(0)',
    'select lo_creat(-1)',
    "select lo_from_bytea(0, 'x')",
    gift('select lo_get(4711)'),
    gift("select convert_from(lo_get(4711), 'UTF8')"),
    gift('begin', 'select loread(lo_open(4711, 262144), 100)', 'rollback'),
    "select lo_put(4711, 0, 'x')",
    'select lo_unlink(4711)',
    'select public.lo_oid(1::public.lo)',
    "select lo_import('/etc/passwd')",
    "select lo_export(4711, '$DIR/exported')",
    'select * from pg_largeobject_metadata',
    'alter large object 4711 owner to current_user',
    'grant all on large object 4711 to current_user',
  ],

  'files and programs': [
    "select pg_read_file('/etc/passwd')",
    "select pg_read_file('postgresql.auto.conf')",
    "select pg_read_binary_file('global/pg_control')",
    "select pg_ls_dir('.')",
    'select * from pg_ls_logdir()',
    "select pg_stat_file('postgresql.conf')",
    'select pg_current_logfile()',
    "select public.get_raw_page('public.salaries', 0)",
    "select * from public.pgstattuple('public.salaries')",
    "select * from public.pg_freespace('public.salaries')",
    "select * from pg_logical_slot_get_changes('s', null, null)",
    "select pg_file_write('$DIR/written', 'x', false)",
    'select xmlparse(document \'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>\')',
    "select public.xslt_process('<x/>', '<x/>')",
    'select pg_show_all_file_settings()',
    'select * from pg_config',
  ],

  'other machines': [
    "select public.dblink_connect('host=127.0.0.1 port=$PORT user=x password=x dbname=x')",
    "select * from public.dblink('host=127.0.0.1 port=$PORT user=x password=x connect_timeout=1', 'select 1') as t (a int)",
    "select public.dblink_connect_u('host=127.0.0.1 port=$PORT')",
    gift(
      "select * from public.dblink('loopback', 'select name, amount, iban from public.salaries') as t (a text, b int, c text)",
    ),
    gift("select public.dblink_exec('loopback', 'update public.salaries set amount = 1')"),
    gift(
      "select public.dblink_connect('c', 'loopback')",
      "select * from public.dblink('c', 'select iban from public.salaries') as t (a text)",
      "select public.dblink_disconnect('c')",
    ),
    gift(
      "create foreign table public.far (name text, amount int, iban text) server loopback options (schema_name 'public', table_name 'salaries')",
      'select * from public.far',
    ),
    gift(
      "create foreign table pg_temp.far (name text, amount int, iban text) server loopback options (schema_name 'public', table_name 'salaries')",
      'select * from pg_temp.far',
    ),
    'import foreign schema public from server loopback into public',
    "create server mine foreign data wrapper postgres_fdw options (host '127.0.0.1', port '$PORT')",
    "alter server loopback options (set port '$PORT')",
    "create user mapping for current_user server loopback options (user 'x', password 'x')",
    gift(
      "select public.postgres_fdw_get_connections(), public.dblink_get_connections(), (select count(*) from public.dblink('loopback', 'select iban from public.salaries') as t (iban text) where iban = 'x' or iban::int > 0)",
    ),
    'select public.postgres_fdw_disconnect_all()',
  ],

  'what others do at the same time': [
    'select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = current_user and pid <> pg_backend_pid()',
    'select pg_cancel_backend(pid) from pg_stat_activity where usename = current_user and pid <> pg_backend_pid()',
    "select (pid).pg_terminate_backend from pg_stat_activity where usename = 'postgres'",
    'select pg_log_backend_memory_contexts(pid) from pg_stat_activity',
    'select pg_stat_get_backend_activity(n) from generate_series(1, 50) n',
    'select pid, query, client_addr from pg_stat_get_activity(null)',
    'select pg_blocking_pids(pid), wait_event from pg_stat_activity',
    "set application_name = 'sallyport'",
  ],

  'leaks by errors': [
    'select 1 / (amount - 28) from tickets',
    'select * from tickets where 1 / (amount - 28) is not null',
    'select * from tickets where body::int > 0 and id = 3',
    'select * from tickets where id > 2 and (subject || body)::int > 0',
    "update tickets set status = 'x' where body::int > 0 and id > 2",
    'delete from tickets where body::int > 0 and id > 2',
    'select 1 from responses r join tickets t on t.id = r.ticket_id where t.id > 2 and t.body::int > 0',
    'select 1 from customers c where c.id > 7 and c.name::int > 0',
    'select (select body::int from tickets where customer_id = 8)',
    'select sqrt(28 - amount) from tickets where id = 4',
    'select count(*) from tickets where substring(body from 1 for amount - 29) is not null',
    'select body::json from tickets where id = 3',
    'select tickets.body::date from tickets, customers',
    "select case when exists (select from public.tickets where body like 'B%') then 1 / 0 else 1 end",
    "select regexp_replace(body, '(' || body, '') from tickets where id > 2",
    'insert into responses (ticket_id, body) values (1, (select body from tickets where id = 3))',
    'update tickets set status = null where id = 1',
    'update tickets set status = null',
    "insert into preferences (customer_id, key) values (null, 'theme')",
    'insert into tickets (customer_id, subject) values (7, null) returning *',
  ],

  'comments and encodings': [
    'select/**/*/**/from/**/public.salaries',
    'select * from public.salaries/*',
    '/*/* nested */*/select * from public.salaries',
    'select * from tickets --\r; select * from public.salaries',
    "select * from tickets /* ' */ where body = ' */ union select * from public.salaries -- '",
    "select E'\\'; select * from public.salaries; --'",
    "select '\\'; select * from public.salaries; --'",
    'select $a$ $b$ $a$, * from public.salaries -- $b$',
    'select $é$x$è$, name from public.salaries -- $è$ $é$',
    "select U&'\\0027 union select iban from public.salaries --'",
    'select * from public．salaries',
    'select\u00a0*\u00a0from\u00a0public.salaries',
    'select\u2028* from\u2029public.salaries',
    'sel\u0000ect * from public.salaries',
    'select 1\u0000; select * from public.salaries',
    'select * from "tickets\u0000salaries"',
    'select \ud800 from public.salaries',
    "select convert_from('\\x53454c', 'UTF8'), convert_to('x', 'LATIN1') from public.salaries",
    'ſelect * from public.salaries',
    "select N'x', X'53', B'1' from public.salaries",
    'select * from public."ſalaries"',
    "select 'a'\n'b' from public.salaries",
    'select 1 as "; drop table public.tickets; --"',
    'select 0x1f, 1_000 from public.salaries',
  ],

  'more than one statement': [
    'select 1; select * from public.salaries',
    'select 1; delete from public.salaries',
    'begin; delete from public.salaries; commit',
    'select * from tickets; set role postgres; select * from public.salaries',
    'select 1;; ; table public.salaries',
    ['begin', 'select 1', 'commit; set role postgres; select * from public.salaries'],
    ["select ';'; select * from public.salaries"],
    many(200, 'select 1;'),
  ],

  'deep and huge': [
    `select ${many(20_000, '1+')}1`,
    `select ${many(3_000, '(')}1${many(3_000, ')')}`,
    `select ${many(3_000, 'not ')}true`,
    `${many(2_000, 'select 1 union all ')}select 1`,
    `select * from ${many(500, '(select * from ')}tickets${many(500, ') x')}`,
    `${many(400, '/*')}${many(400, '*/')} select * from public.salaries`,
    `select 1 ${many(8_000, '+-')} 1`,
    `select * from tickets where id in (${many(30_000, '1,')}1)`,
    `select '${many(63_000, 'x')}'`,
    `select "${many(5_000, 'x')}" from tickets`,
    "select length(repeat('x', 100000000))",
    "select length(string_agg(repeat('x', 1000000), '')) from generate_series(1, 50)",
    "select length(lpad('x', 100000000)), length(rpad('x', 100000000))",
    'select count(*) from generate_series(1, 100000000)',
    'select count(*) from tickets a, tickets b, tickets c, tickets d, tickets e, tickets f, tickets g, tickets h',
    'with recursive t as (select 1 as n union all select n + 1 from t where n < 1000000) select count(*) from t',
    "select '{\"a\":' || repeat('[', 5000) || repeat(']', 5000) || '}'",
    "select 'x' ~ '((((((((((x{1,200}){1,200}){1,200}))))))))'",
    "select length(format('%100000000s', 'x'))",
    "select '1'::bit(10000000), 'x'::char(10000000)",
  ],
}
