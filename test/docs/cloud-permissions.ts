/** What a worker may do on AWS, and no more: test/unit/providers/documented-permissions.test.ts compares it with what is called. */
export const awsPolicy = {
  Version: '2012-10-17',
  Statement: [
    {
      Effect: 'Allow',
      Action: [
        'autoscaling:DescribeAutoScalingGroups',
        'autoscaling:DescribeInstanceRefreshes',
        'ec2:DescribeLaunchTemplateVersions',
      ],
      Resource: '*',
    },
    {
      Effect: 'Allow',
      Action: 'autoscaling:SetDesiredCapacity',
      Resource: '*',
      Condition: { StringEquals: { 'autoscaling:ResourceTag/autoscaler': 'managed' } },
    },
    {
      Sid: 'OnlyForActuationFloor',
      Effect: 'Allow',
      Action: 'autoscaling:UpdateAutoScalingGroup',
      Resource: '*',
      Condition: { StringEquals: { 'autoscaling:ResourceTag/autoscaler': 'managed' } },
    },
  ],
};

/** The same for a namespace of a cluster. As text, so that comments stay. */
export const kubernetesRole = `apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: { name: scaler-worker, namespace: shop }
rules:
  - { apiGroups: [apps], resources: [deployments, statefulsets], verbs: [get] }
  - { apiGroups: [apps], resources: [deployments/scale, statefulsets/scale], verbs: [update] }
  - { apiGroups: [autoscaling], resources: [horizontalpodautoscalers], verbs: [list] }
  - { apiGroups: [keda.sh], resources: [scaledobjects], verbs: [list] }
  # Only for resources with actuation floor.
  - { apiGroups: [autoscaling], resources: [horizontalpodautoscalers], verbs: [patch] }
`;
