import type { Failure } from '../../../core/failure.ts'
import type { Refusal } from '../../../guard/guard.ts'
import type { Complaint } from './frames.ts'
import type { Most } from './running.ts'

// What clients are told, with the SQLSTATE that programs understand.

export const skippedOver: Complaint = {
  sqlstate: '25P02',
  message: 'it was not run, because of an error before it',
}

export const notRun: Complaint = {
  sqlstate: '25P02',
  message: 'it was not run: another statement of its text was refused',
}

export const inParts: Complaint = {
  sqlstate: '0A000',
  message: 'the result of a change with a bound on its rows can’t be read in parts',
  hint: 'Set the fetch size to 0 for this statement.',
}

export const tooMany = (touched: number, most: number): Complaint => ({
  sqlstate: '42501',
  message: `it would touch ${touched} rows, and ${most} are the most without people being asked: nothing was changed`,
  hint: 'Narrow its condition, or run it alone, outside of a transaction: then people are asked.',
})

export const tooLarge = (
  { rows, bytes }: Most,
  came: { readonly rows: number; readonly isWrite: boolean },
): Complaint => ({
  sqlstate: '54000',
  message:
    came.rows > rows
      ? `the result has more than ${rows} rows, the most that one statement may return here`
      : `the result has more than ${bytes} bytes, the most that one statement may return here`,
  hint: came.isWrite
    ? 'What it changes may have been changed. Return fewer columns or rows.'
    : 'Add LIMIT, or narrow its condition.',
})

const stateOf: Readonly<Record<Refusal['code'], string>> = {
  unknown: '42501',
  invalid_arguments: '22023',
  denied: '42501',
  limited: '53400',
  session_over: '57P01',
  quarantined: '55000',
  unavailable: '55000',
  approval_pending: '42501',
  approval_denied: '42501',
}

export function complaintOfRefusal({ code, because, approval, retryAt }: Refusal): Complaint {
  const hint =
    code === 'approval_pending' && approval !== undefined
      ? `Approval ${approval.id} is pending: run the same statement again once it is given.`
      : retryAt === undefined
        ? undefined
        : `Try again at ${new Date(retryAt).toISOString()}.`
  return { sqlstate: stateOf[code], message: because, ...(hint === undefined ? {} : { hint }) }
}

export const complaintOfFailure = ({ code, message }: Failure): Complaint => ({
  sqlstate: code === 'cancelled' ? '57014' : code === 'unavailable' ? '57P03' : code === 'limited' ? '53400' : 'XX000',
  message,
})
