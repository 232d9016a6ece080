// What statements may be made of. Everything that is not here is refused: kinds of nodes and their fields as the parser
// of PostgreSQL 18 names them, functions, operators, types, settings.

/**
 * What a field holds. `node`: a node of any kind, `nodes`: a list of them, `fields`: the fields of one kind, without
 * its name around them; `words`: a list of strings; `place`: where something stands, which means nothing; otherwise a
 * plain value, or one of those listed.
 */
export type Form = 'node' | 'nodes' | 'fields' | 'words' | 'word' | 'number' | 'flag' | 'place' | readonly string[]

type Forms = Readonly<Record<string, Form>>

/** Kinds that are nothing but what they hold. */
export const plainKinds: Readonly<Record<string, Forms>> = {
  List: { items: 'nodes' },
  BoolExpr: { boolop: ['AND_EXPR', 'OR_EXPR', 'NOT_EXPR'], args: 'nodes', location: 'place' },
  CaseExpr: { arg: 'node', args: 'nodes', defresult: 'node', location: 'place' },
  CaseWhen: { expr: 'node', result: 'node', location: 'place' },
  CoalesceExpr: { args: 'nodes', location: 'place' },
  MinMaxExpr: { op: ['IS_GREATEST', 'IS_LEAST'], args: 'nodes', location: 'place' },
  NullTest: { arg: 'node', nulltesttype: ['IS_NULL', 'IS_NOT_NULL'], location: 'place' },
  BooleanTest: {
    arg: 'node',
    booltesttype: ['IS_TRUE', 'IS_NOT_TRUE', 'IS_FALSE', 'IS_NOT_FALSE', 'IS_UNKNOWN', 'IS_NOT_UNKNOWN'],
    location: 'place',
  },
  RowExpr: { args: 'nodes', row_format: ['COERCE_EXPLICIT_CALL', 'COERCE_IMPLICIT_CAST'], location: 'place' },
  A_ArrayExpr: { elements: 'nodes', list_start: 'place', list_end: 'place', location: 'place' },
  A_Indices: { is_slice: 'flag', lidx: 'node', uidx: 'node' },
  GroupingSet: {
    kind: [
      'GROUPING_SET_EMPTY',
      'GROUPING_SET_SIMPLE',
      'GROUPING_SET_ROLLUP',
      'GROUPING_SET_CUBE',
      'GROUPING_SET_SETS',
    ],
    content: 'nodes',
    location: 'place',
  },
  GroupingFunc: { args: 'nodes', location: 'place' },
  NamedArgExpr: { arg: 'node', name: 'word', argnumber: 'number', location: 'place' },
  ParamRef: { number: 'number', location: 'place' },
  SetToDefault: { location: 'place' },
  MultiAssignRef: { source: 'node', colno: 'number', ncolumns: 'number' },
  WindowDef: {
    name: 'word',
    refname: 'word',
    partitionClause: 'nodes',
    orderClause: 'nodes',
    frameOptions: 'number',
    startOffset: 'node',
    endOffset: 'node',
    location: 'place',
  },
}

/** Kinds that mean more than what they hold: each has its own part in the check. */
export const ownKinds: Readonly<Record<string, Forms>> = {
  RawStmt: { stmt: 'node', stmt_location: 'place', stmt_len: 'place' },
  SelectStmt: {
    distinctClause: 'nodes',
    targetList: 'nodes',
    fromClause: 'nodes',
    whereClause: 'node',
    groupClause: 'nodes',
    groupDistinct: 'flag',
    havingClause: 'node',
    windowClause: 'nodes',
    valuesLists: 'nodes',
    sortClause: 'nodes',
    limitOffset: 'node',
    limitCount: 'node',
    limitOption: ['LIMIT_OPTION_DEFAULT', 'LIMIT_OPTION_COUNT', 'LIMIT_OPTION_WITH_TIES'],
    withClause: 'fields',
    op: ['SETOP_NONE', 'SETOP_UNION', 'SETOP_INTERSECT', 'SETOP_EXCEPT'],
    all: 'flag',
    larg: 'fields',
    rarg: 'fields',
  },
  InsertStmt: {
    relation: 'fields',
    cols: 'nodes',
    selectStmt: 'node',
    onConflictClause: 'fields',
    returningClause: 'fields',
    withClause: 'fields',
    override: ['OVERRIDING_NOT_SET'],
  },
  UpdateStmt: {
    relation: 'fields',
    targetList: 'nodes',
    whereClause: 'node',
    fromClause: 'nodes',
    returningClause: 'fields',
    withClause: 'fields',
  },
  DeleteStmt: {
    relation: 'fields',
    usingClause: 'nodes',
    whereClause: 'node',
    returningClause: 'fields',
    withClause: 'fields',
  },
  WithClause: { ctes: 'nodes', recursive: 'flag', location: 'place' },
  CommonTableExpr: {
    ctename: 'word',
    aliascolnames: 'words',
    ctematerialized: ['CTEMaterializeDefault', 'CTEMaterializeAlways', 'CTEMaterializeNever'],
    ctequery: 'node',
    location: 'place',
  },
  OnConflictClause: {
    action: ['ONCONFLICT_NOTHING', 'ONCONFLICT_UPDATE'],
    infer: 'fields',
    targetList: 'nodes',
    whereClause: 'node',
    location: 'place',
  },
  InferClause: { indexElems: 'nodes', whereClause: 'node', location: 'place' },
  IndexElem: {
    name: 'word',
    expr: 'node',
    ordering: ['SORTBY_DEFAULT'],
    nulls_ordering: ['SORTBY_NULLS_DEFAULT'],
    location: 'place',
  },
  ReturningClause: { exprs: 'nodes' },
  RangeVar: {
    schemaname: 'word',
    relname: 'word',
    inh: 'flag',
    relpersistence: ['p'],
    alias: 'fields',
    location: 'place',
  },
  Alias: { aliasname: 'word', colnames: 'words' },
  RangeSubselect: { lateral: 'flag', subquery: 'node', alias: 'fields' },
  RangeFunction: {
    lateral: 'flag',
    ordinality: 'flag',
    is_rowsfrom: 'flag',
    functions: 'nodes',
    alias: 'fields',
    coldeflist: 'nodes',
  },
  ColumnDef: { colname: 'word', typeName: 'fields', is_local: 'flag', location: 'place' },
  JoinExpr: {
    jointype: ['JOIN_INNER', 'JOIN_LEFT', 'JOIN_FULL', 'JOIN_RIGHT'],
    isNatural: 'flag',
    larg: 'node',
    rarg: 'node',
    usingClause: 'words',
    join_using_alias: 'fields',
    quals: 'node',
    alias: 'fields',
    rtindex: 'number',
  },
  ResTarget: { name: 'word', indirection: 'nodes', val: 'node', location: 'place' },
  SortBy: {
    node: 'node',
    sortby_dir: ['SORTBY_DEFAULT', 'SORTBY_ASC', 'SORTBY_DESC'],
    sortby_nulls: ['SORTBY_NULLS_DEFAULT', 'SORTBY_NULLS_FIRST', 'SORTBY_NULLS_LAST'],
    location: 'place',
  },
  ColumnRef: { fields: 'nodes', location: 'place' },
  A_Star: {},
  A_Const: {
    ival: 'fields',
    fval: 'fields',
    boolval: 'fields',
    sval: 'fields',
    bsval: 'fields',
    isnull: 'flag',
    location: 'place',
  },
  Integer: { ival: 'number' },
  Float: { fval: 'word' },
  Boolean: { boolval: 'flag' },
  String: { sval: 'word' },
  BitString: { bsval: 'word' },
  A_Expr: {
    kind: [
      'AEXPR_OP',
      'AEXPR_OP_ANY',
      'AEXPR_OP_ALL',
      'AEXPR_DISTINCT',
      'AEXPR_NOT_DISTINCT',
      'AEXPR_NULLIF',
      'AEXPR_IN',
      'AEXPR_LIKE',
      'AEXPR_ILIKE',
      'AEXPR_SIMILAR',
      'AEXPR_BETWEEN',
      'AEXPR_NOT_BETWEEN',
      'AEXPR_BETWEEN_SYM',
      'AEXPR_NOT_BETWEEN_SYM',
    ],
    name: 'words',
    lexpr: 'node',
    rexpr: 'node',
    rexpr_list_start: 'place',
    rexpr_list_end: 'place',
    location: 'place',
  },
  SubLink: {
    subLinkType: ['EXISTS_SUBLINK', 'ALL_SUBLINK', 'ANY_SUBLINK', 'EXPR_SUBLINK', 'ARRAY_SUBLINK'],
    testexpr: 'node',
    operName: 'words',
    subselect: 'node',
    location: 'place',
  },
  FuncCall: {
    funcname: 'words',
    args: 'nodes',
    agg_order: 'nodes',
    agg_filter: 'node',
    over: 'fields',
    agg_within_group: 'flag',
    agg_star: 'flag',
    agg_distinct: 'flag',
    func_variadic: 'flag',
    funcformat: ['COERCE_EXPLICIT_CALL', 'COERCE_SQL_SYNTAX'],
    location: 'place',
  },
  A_Indirection: { arg: 'node', indirection: 'nodes' },
  TypeCast: { arg: 'node', typeName: 'fields', location: 'place' },
  TypeName: { names: 'words', typmods: 'nodes', typemod: 'number', arrayBounds: 'nodes', location: 'place' },
  CollateClause: { arg: 'node', collname: 'words', location: 'place' },
  SQLValueFunction: {
    op: [
      'SVFOP_CURRENT_DATE',
      'SVFOP_CURRENT_TIME',
      'SVFOP_CURRENT_TIME_N',
      'SVFOP_CURRENT_TIMESTAMP',
      'SVFOP_CURRENT_TIMESTAMP_N',
      'SVFOP_LOCALTIME',
      'SVFOP_LOCALTIME_N',
      'SVFOP_LOCALTIMESTAMP',
      'SVFOP_LOCALTIMESTAMP_N',
      'SVFOP_CURRENT_ROLE',
      'SVFOP_CURRENT_USER',
      'SVFOP_USER',
      'SVFOP_SESSION_USER',
      'SVFOP_CURRENT_CATALOG',
      'SVFOP_CURRENT_SCHEMA',
    ],
    typmod: 'number',
    location: 'place',
  },
  TransactionStmt: {
    kind: [
      'TRANS_STMT_BEGIN',
      'TRANS_STMT_START',
      'TRANS_STMT_COMMIT',
      'TRANS_STMT_ROLLBACK',
      'TRANS_STMT_SAVEPOINT',
      'TRANS_STMT_RELEASE',
      'TRANS_STMT_ROLLBACK_TO',
    ],
    options: 'nodes',
    savepoint_name: 'word',
    location: 'place',
  },
  DefElem: { defname: 'word', arg: 'node', defaction: ['DEFELEM_UNSPEC'], location: 'place' },
  VariableSetStmt: {
    kind: ['VAR_SET_VALUE', 'VAR_SET_DEFAULT', 'VAR_SET_MULTI', 'VAR_RESET', 'VAR_RESET_ALL'],
    name: 'word',
    args: 'nodes',
    jumble_args: 'flag',
    is_local: 'flag',
    location: 'place',
  },
  VariableShowStmt: { name: 'word' },
  PrepareStmt: { name: 'word', argtypes: 'nodes', query: 'node' },
  ExecuteStmt: { name: 'word', params: 'nodes' },
  DeallocateStmt: { name: 'word', isall: 'flag', location: 'place' },
  DeclareCursorStmt: { portalname: 'word', options: 'number', query: 'node' },
  FetchStmt: {
    direction: ['FETCH_FORWARD', 'FETCH_BACKWARD', 'FETCH_ABSOLUTE', 'FETCH_RELATIVE'],
    howMany: 'number',
    portalname: 'word',
    ismove: 'flag',
  },
  ClosePortalStmt: { portalname: 'word' },
  DiscardStmt: { target: ['DISCARD_ALL', 'DISCARD_PLANS', 'DISCARD_SEQUENCES', 'DISCARD_TEMP'] },
}

const words = (text: string): string[] => text.split(/\s+/).filter(Boolean)

/**
 * Functions that only compute: they read no table, no catalog, no file and no setting but the time zone, run no text,
 * wait for nothing, change nothing, and make little of little. `repeat`, `lpad` and the like are in `boundedFunctions`.
 * Regular expressions can be slow on hostile patterns; PostgreSQL looks up while matching, so its time limit ends them.
 */
export const functions: ReadonlySet<string> = new Set(
  words(`
    count sum avg min max bool_and bool_or every bit_and bit_or bit_xor any_value
    string_agg array_agg json_agg jsonb_agg json_object_agg jsonb_object_agg
    stddev stddev_pop stddev_samp variance var_pop var_samp corr covar_pop covar_samp
    regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy
    mode percentile_cont percentile_disc
    row_number rank dense_rank percent_rank cume_dist ntile lag lead first_value last_value nth_value

    abs cbrt ceil ceiling degrees div exp floor gcd lcm ln log log10 min_scale mod pi pow power radians random round
    scale sign sqrt trim_scale trunc width_bucket
    acos asin atan atan2 cos cot sin tan acosd asind atand atan2d cosd cotd sind tand sinh cosh tanh

    ascii bit_length btrim char_length character_length chr concat concat_ws decode encode initcap is_normalized left
    length like_escape lower ltrim md5 normalize octet_length overlay position quote_ident quote_literal quote_nullable
    regexp_count regexp_instr regexp_like regexp_match regexp_matches regexp_replace regexp_split_to_array
    regexp_split_to_table regexp_substr replace reverse right rtrim sha224 sha256 sha384 sha512 similar_to_escape
    split_part starts_with string_to_array string_to_table strpos substr substring to_hex translate upper

    age clock_timestamp date date_add date_bin date_part date_subtract date_trunc extract isfinite justify_days
    justify_hours justify_interval make_date make_interval make_time make_timestamp make_timestamptz now overlaps
    statement_timestamp timezone to_char to_date to_number to_timestamp transaction_timestamp

    array_append array_cat array_dims array_length array_lower array_ndims array_position array_positions array_prepend
    array_remove array_replace array_to_string array_upper cardinality generate_subscripts trim_array unnest

    array_to_json row_to_json to_json to_jsonb
    json_array_elements json_array_elements_text json_array_length json_build_array json_build_object json_each
    json_each_text json_extract_path json_extract_path_text json_object json_object_keys json_strip_nulls
    json_to_record json_to_recordset json_typeof
    jsonb_array_elements jsonb_array_elements_text jsonb_array_length jsonb_build_array jsonb_build_object jsonb_each
    jsonb_each_text jsonb_extract_path jsonb_extract_path_text jsonb_insert jsonb_object jsonb_object_keys
    jsonb_path_exists jsonb_path_match jsonb_path_query jsonb_path_query_array jsonb_path_query_first jsonb_pretty
    jsonb_set jsonb_set_lax jsonb_strip_nulls jsonb_to_record jsonb_to_recordset jsonb_typeof

    numnode phraseto_tsquery plainto_tsquery querytree setweight strip to_tsquery to_tsvector ts_headline ts_rank
    ts_rank_cd websearch_to_tsquery

    daterange int4range int8range numrange tsrange tstzrange isempty lower_inc lower_inf upper_inc upper_inf range_merge
    abbrev broadcast family host hostmask masklen netmask network
    gen_random_uuid num_nonnulls num_nulls
  `),
)

/**
 * Functions whose first argument can name a configuration of text search, and with how many arguments it may: a name that
 * isn't known here would tell whether somebody has made such a configuration, or a schema.
 */
export const searches: Readonly<Record<string, number>> = {
  to_tsvector: 2,
  to_tsquery: 2,
  plainto_tsquery: 2,
  phraseto_tsquery: 2,
  websearch_to_tsquery: 2,
  ts_headline: 3,
}

/** Configurations that every database has. */
export const configurations: ReadonlySet<string> = new Set(
  words(`simple arabic armenian basque catalan danish dutch english finnish french german greek hindi hungarian indonesian
    irish italian lithuanian nepali norwegian portuguese romanian russian serbian spanish swedish tamil turkish yiddish`),
)

/** Columns of what a function returns in FROM, where it doesn't take the name that it is given there. */
export const functionColumns: Readonly<Record<string, readonly string[]>> = {
  json_array_elements: ['value'],
  json_array_elements_text: ['value'],
  jsonb_array_elements: ['value'],
  jsonb_array_elements_text: ['value'],
  json_each: ['key', 'value'],
  json_each_text: ['key', 'value'],
  jsonb_each: ['key', 'value'],
  jsonb_each_text: ['key', 'value'],
}

/** Functions of one unnamed column in FROM, which takes the name that it is given there. */
export const scalarSets: ReadonlySet<string> = new Set(
  words(`unnest generate_series generate_subscripts json_object_keys jsonb_object_keys jsonb_path_query regexp_matches
    regexp_split_to_table string_to_table`),
)

/** Operators of PostgreSQL itself. All of them only compute. */
export const operators: ReadonlySet<string> = new Set(
  words(`
    = <> != < <= > >= + - * / % ^ |/ ||/ @ & | # ~ << >>
    || ~~ !~~ ~~* !~~* ~* !~ !~* ^@
    -> ->> #> #>> @> <@ ? ?| ?& #- @? @@
    && &< &> -|- >>= <<=
  `),
)

/** Types that values can be turned to. No type whose input looks something up: `regclass`, `regproc` and the like. */
export const types: ReadonlySet<string> = new Set(
  words(`
    int2 int4 int8 smallint integer int bigint float4 float8 real numeric decimal bool boolean
    text varchar bpchar char name bytea bit varbit uuid
    date time timetz timestamp timestamptz interval
    json jsonb jsonpath inet cidr macaddr tsvector tsquery
    int4range int8range numrange daterange tsrange tstzrange
    unknown
  `),
)

/**
 * Types that can stand beside a key, of whatever type that one is, so that `=` holds it to one row: no two keys are equal to
 * one value of them. Not so `float8`, to which large numbers are rounded; `bpchar`, which leaves blanks out; and
 * `timestamptz`, which is two times of a `timestamp`, or two days of a `date`, where clocks are put forward.
 */
export const exactTypes: ReadonlySet<string> = new Set(
  words('int2 int4 int8 numeric bool text varchar bytea uuid date timestamp'),
)

export const collations: ReadonlySet<string> = new Set(['C', 'POSIX', 'default', 'ucs_basic', 'und-x-icu', 'en-x-icu'])

/** Columns that every table has, and no statement needs: they tell of other transactions and of where rows lie. */
export const systemColumns: ReadonlySet<string> = new Set(['ctid', 'xmin', 'xmax', 'cmin', 'cmax', 'tableoid'])

const anyOf = (pattern: RegExp) => (value: string) => pattern.test(value)
const zone = /^[A-Za-z0-9_+\-/:<>]{1,64}$/

/**
 * Settings that can be changed, and to what. Connections of agents are their own, so nobody else notices; none of
 * these changes what is allowed. `RESET ALL` and `DISCARD ALL` go back to what the role is given.
 */
export const settings: Readonly<Record<string, (value: string, most: { readonly time: number }) => boolean>> = {
  application_name: (value) => value.length <= 64,
  bytea_output: anyOf(/^(hex|escape)$/i),
  client_encoding: anyOf(/^(utf-?8|unicode)$/i),
  client_min_messages: anyOf(/^(notice|warning|error)$/i),
  datestyle: anyOf(/^iso(, ?(mdy|dmy|ymd))?$/i),
  extra_float_digits: anyOf(/^(-?\d|-1[0-5])$/),
  intervalstyle: anyOf(/^(postgres|postgres_verbose|sql_standard|iso_8601)$/i),
  lock_timeout: isShorter,
  standard_conforming_strings: anyOf(/^(on|true|yes|1)$/i),
  statement_timeout: isShorter,
  timezone: anyOf(zone),
}

/** Settings that can be shown, beside those that can be changed. */
export const shown: ReadonlySet<string> = new Set(
  words(`default_transaction_deferrable default_transaction_isolation default_transaction_read_only integer_datetimes
    max_identifier_length search_path server_encoding server_version server_version_num transaction_deferrable
    transaction_isolation transaction_read_only`),
)

/** Of BEGIN, SET TRANSACTION and SET SESSION CHARACTERISTICS. */
export const transactionModes: ReadonlySet<string> = new Set([
  'transaction_isolation',
  'transaction_read_only',
  'transaction_deferrable',
])

/** Whether a time limit, as PostgreSQL reads one, is one at all and no longer than what is given. */
function isShorter(value: string, most: { readonly time: number }): boolean {
  const [, number, unit = 'ms'] = /^ *(\d{1,9}) *(ms|s|min)? *$/.exec(value) ?? []
  const length = Number(number) * ({ ms: 1, s: 1000, min: 60_000 }[unit] ?? Number.NaN)
  return length > 0 && length <= most.time
}

/** How large a constant may be that says how much is to be made. */
export const mostMade = 10_000

/**
 * Functions that make much of little: they can be called with constants that bound it. Arguments are strings and
 * numbers where they are constants, and undefined where they aren't.
 */
export const boundedFunctions: Readonly<
  Record<string, { readonly rule: string; readonly holds: (args: readonly (string | number | undefined)[]) => boolean }>
> = {
  repeat: {
    rule: `with a constant text, and a constant count so that at most ${mostMade} characters come out`,
    holds: ([text, count]) => typeof text === 'string' && typeof count === 'number' && text.length * count <= mostMade,
  },
  lpad: pad(),
  rpad: pad(),
  format: {
    rule: 'with a constant format of `%s`, `%I`, `%L` and `%%`, without widths',
    holds: ([format]) => typeof format === 'string' && /^(?:[^%]|%%|%(?:\d+\$)?[sIL])*$/.test(format),
  },
  generate_series: {
    rule: `with whole numbers that are constants, over at most ${mostMade} values. For days: \`date '2025-01-01' + n\` over such numbers`,
    holds: ([from, to, step = 1, ...rest]) =>
      typeof from === 'number' &&
      typeof to === 'number' &&
      typeof step === 'number' &&
      rest.length === 0 &&
      Math.abs((to - from) / step) < mostMade,
  },
}

function pad() {
  return {
    rule: `with a constant length of at most ${mostMade}`,
    holds: (args: readonly (string | number | undefined)[]) => typeof args[1] === 'number' && args[1] <= mostMade,
  }
}

/** How statements are called that are refused as they are. */
export const refusedStatements: Readonly<Record<string, string>> = {
  CopyStmt: 'COPY',
  DoStmt: 'DO',
  CallStmt: 'CALL',
  MergeStmt: 'MERGE',
  LockStmt: 'LOCK',
  ListenStmt: 'LISTEN',
  UnlistenStmt: 'UNLISTEN',
  NotifyStmt: 'NOTIFY',
  TruncateStmt: 'TRUNCATE',
  VacuumStmt: 'VACUUM',
  ExplainStmt: 'EXPLAIN',
  DropStmt: 'DROP',
  GrantStmt: 'GRANT and REVOKE',
  GrantRoleStmt: 'GRANT and REVOKE',
  CreateTableAsStmt: 'CREATE TABLE AS',
  CreateStmt: 'CREATE TABLE',
  ViewStmt: 'CREATE VIEW',
  IndexStmt: 'CREATE INDEX',
  CreateFunctionStmt: 'CREATE FUNCTION',
  LoadStmt: 'LOAD',
  CheckPointStmt: 'CHECKPOINT',
  ReindexStmt: 'REINDEX',
  ClusterStmt: 'CLUSTER',
  AlterSystemStmt: 'ALTER SYSTEM',
  ConstraintsSetStmt: 'SET CONSTRAINTS',
}
