# Install effml from this folder on Windows, without a network and without an administrator.
# Double-click install.cmd, or: powershell -ExecutionPolicy Bypass -File install.ps1 [--to FOLDER] [--dry-run] [--no-start]
$here = $PSScriptRoot
$has = Get-ChildItem (Join-Path $here 'requirements') -Filter 'windows-*.txt' | ForEach-Object { $_.BaseName -replace '^windows-', '' }
$found = @()
# The launcher knows every installed Python; python.exe may be a link to a shop, which prints nothing.
$candidates = @()
foreach ($version in $has) { $candidates += , @('py', "-$version") }
$candidates += , @('python')
if ($env:PYTHON) { $candidates = @(, @($env:PYTHON)) }
foreach ($candidate in $candidates) {
    $program = $candidate[0]
    $words = @($candidate | Select-Object -Skip 1)
    if (-not (Get-Command $program -ErrorAction SilentlyContinue)) { continue }
    $told = & $program @words -c 'import sys; print(sys.version_info[0], sys.version_info[1], sys.maxsize > 2**32)' 2>$null
    if ($LASTEXITCODE -ne 0 -or -not $told) { continue }
    $major, $minor, $wide = "$told".Trim().Split(' ')
    if ($has -contains "$major.$minor" -and $wide -eq 'True') {
        & $program @words (Join-Path $here 'install.py') @args
        exit $LASTEXITCODE
    }
    $bits = if ($wide -eq 'True') { '64' } else { '32' }
    $found += "$program is Python $major.$minor with $bits bits"
}
Write-Host "install.ps1: no Python that this kit has packages for ($($has -join ', '), 64 bits). Found: $(if ($found) { $found -join '; ' } else { 'none' })."
Write-Host 'Install one of these from the folder python of this kit, or from https://www.python.org/downloads'
Write-Host '(choose "Install for me only": it needs no administrator), then start this again.'
exit 1
