// Types that a client can declare for the parameters of a statement, by their numbers (`pg_type.dat` of PostgreSQL).

const numbers = (text: string): number[] => text.split(/\s+/).filter(Boolean).map(Number)

/** Those of `types` in `lists.ts`, `oid`, and lists of these. */
export const plainTypes: ReadonlySet<number> = new Set(
  numbers(`
    16 17 18 19 20 21 23 25 26 114 650 700 701 705 829 869 1042 1043 1082 1083 1114 1184 1186 1266 1560 1562 1700 2950
    3614 3615 3802 3904 3906 3908 3910 3912 3926 4072
    199 651 1000 1001 1002 1003 1005 1007 1009 1014 1015 1016 1021 1022 1028 1040 1041 1115 1182 1183 1185 1187 1231 1270
    1561 1563 2951 3643 3645 3807 3905 3907 3909 3911 3913 3927 4073
  `),
)

/**
 * What goes on of a type that a client declares for a parameter: itself where it is a plain one, else none, so that the
 * server takes it from where the parameter stands. By its number, the type of any table could be named, and errors would
 * say what it is called; input of others looks names up, such as that of `regclass`.
 */
export const declaredType = (number: number): number => (plainTypes.has(number) ? number : 0)
