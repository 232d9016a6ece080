#!/usr/bin/env node
// Old syntax on purpose: whatever Node runs this must get far enough to say that it is too old.
import fs from 'fs'
import path from 'path'
import url from 'url'

var root = path.join(path.dirname(url.fileURLToPath(import.meta.url)), '..')
var self = path.join(root, 'bin', 'sallyport.js')
var toolchain = path.join(root, 'scripts', 'toolchain.mjs')
// Only a checkout has sources; there they win over a build that may be old.
var source = path.join(root, 'src', 'cli', 'sallyport.ts')
var main = fs.existsSync(source) ? source : path.join(root, 'dist', 'cli', 'sallyport.js')

/** @param {string} file */
function load(file) {
  return import(url.pathToFileURL(file).href)
}

/** @param {string} message */
function refuse(message) {
  console.error(message)
  process.exit(1)
}

if (parseInt(process.versions.node, 10) >= 24) {
  load(main)
} else if (!fs.existsSync(toolchain)) {
  refuse('sallyport needs Node 24 or newer and found ' + process.version + ': install one from https://nodejs.org')
} else {
  load(toolchain).then(function (tools) {
    return tools.prepare(root).then(function (/** @type {string | undefined} */ problem) {
      if (problem) refuse(problem)
      else tools.become(tools.pinnedNode(root), [self].concat(process.argv.slice(2)))
    })
  })
}
