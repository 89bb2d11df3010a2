# Seconds of the longest test programs. ctest begins with the longest, so that all cores end together: a long one at
# the very end leaves the others idle. Only the order matters; what is not listed takes less than any of these.
set(KURAMORI_TEST_SECONDS
  simulation=235 dump_test=200 redis_test=130 protocol_simulation_test=120 image_test=110 vault_test=100
  e2e_patroni_test=120 e2e_plans_test=95 e2e_alerts_test=90 e2e_kills_test=90 engine_test=75 e2e_s3_main_job_test=70
  e2e_copies_test=70 postgres_capture_test=70 e2e_bucket_test=65 e2e_soak_test=65 e2e_stream_test=65 testing_test=64
  e2e_files_test=60 e2e_s3_faults_test=60 e2e_faults_test=60 e2e_api_test=50 e2e_remote_test=50 e2e_kills_restore_test=50
  e2e_restore_test=50 e2e_watch_test=50 e2e_round_trip_test=40 e2e_refusals_test=40 e2e_mount_test=40 package_test=40
  format_test=38 policy_test=30 postgres_test=30 git_test=30)

# kuramori_test_order(NAME): where the test stands in that order.
function(kuramori_test_order name)
  set(line ${KURAMORI_TEST_SECONDS})
  list(FILTER line INCLUDE REGEX "^${name}=")
  if(line)
    string(REPLACE "${name}=" "" seconds "${line}")
    set_tests_properties(${name} PROPERTIES COST ${seconds})
  endif()
endfunction()
